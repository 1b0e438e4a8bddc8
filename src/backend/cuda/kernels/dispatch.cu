// SPDX-License-Identifier: Apache-2.0
// Dispatch as a stage of its own: every needed token of a group is read once from its home and
// written to each of its rows.
#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/sent_tokens.cuh"
#include "backend/cuda/kernels/token_source.cuh"
#include "layout/token_blocks.hpp"

namespace comet::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kLanes = 32;
constexpr int kWarps = kThreads / kLanes;

// The needed tokens [begin, end) of one block: one transfer.
struct Piece {
  std::int32_t source;
  std::int32_t block;  // of the source's
  std::int32_t begin;
  std::int32_t end;
};

// A warp copies one token, four times 16 bytes of each lane in flight. Each lane knows one of its
// rows; there are no more than lanes.
__device__ void copy_token(const CallParams& p, std::int32_t source, std::int32_t index) {
  constexpr int kUnroll = 4;
  const NeededToken needed = p.plan.needed[index];
  const std::int32_t count = p.plan.needed[index + 1].row_begin - needed.row_begin;
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % kLanes;
  NeededRow row{};
  if (lane < count) row = p.plan.rows[needed.row_begin + lane];
  const std::int64_t row_bytes = p.dims.row_bytes();
  const auto words = static_cast<std::int32_t>(row_bytes / 16);
  const auto* from = reinterpret_cast<const uint4*>(token_at(p, source, needed.token));
  for (std::int32_t first = lane; first - lane < words; first += kUnroll * kLanes) {
    uint4 values[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const std::int32_t at = first + i * kLanes;
      if (at >= words) continue;
      values[i] = load_token_part(p, from + at);
    }
    for (std::int32_t r = 0; r < count; ++r) {
      const std::int64_t to_row = __shfl_sync(~0U, row.row, r);
      auto* to = reinterpret_cast<uint4*>(p.rows + to_row * row_bytes);
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const std::int32_t at = first + i * kLanes;
        if (at < words) to[at] = values[i];
      }
    }
  }
  if (lane >= count) return;
  const auto* weights =
      reinterpret_cast<const float*>(p.peers[source] + p.layout.weights[p.state->epoch & 1U]) +
      std::int64_t{needed.token} * p.dims.topk;
  p.row_weights[row.row] = weights[row.choice];
}

// Piece number `ticket` of a group, empty if the block has fewer; false past the group's end.
__device__ bool find_piece(const CallParams& p, std::int32_t group, std::uint32_t ticket,
                           Piece* piece) {
  const auto chunk = static_cast<std::int32_t>(p.config.chunk);
  const auto pieces = static_cast<std::uint32_t>(ceil_div(kTokenBlock, chunk));
  const std::int32_t first = p.plan.group_blocks[group];
  const std::int32_t count = p.plan.group_blocks[group + 1] - first;
  if (ticket >= count * pieces) return false;
  const BlockTransfer& block = p.plan.blocks[first + ticket / pieces];
  piece->source = block.source;
  piece->block = block.block;
  piece->begin = block.needed_begin + static_cast<std::int32_t>(ticket % pieces) * chunk;
  piece->end = static_cast<std::int32_t>(min_of(block.needed_end, piece->begin + chunk));
  return true;
}

// Each call begins anew, whatever one has left that was abandoned. By the last block, which of few
// tokens has none to copy.
__device__ void clear_progress(const CallParams& p, std::int32_t group) {
  if (p.progress == nullptr || blockIdx.x + 1 != gridDim.x) return;
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  for (std::int32_t tile = p.plan.group_tiles[group] + thread; tile < p.plan.group_tiles[group + 1];
       tile += kThreads) {
    p.progress[tile] = {};
  }
}

__global__ void __launch_bounds__(kThreads)
    dispatch_kernel(const __grid_constant__ CallParams p, std::int32_t group) {
  __shared__ Piece piece;
  __shared__ bool is_work;
  wait_for_kernels_before();
  // Where remote tokens are waited for the product's blocks would take room meanwhile.
  if (loads_ahead(p.dims.block_m) && p.world.is_remote == nullptr) let_next_kernel_start();
  CallState& state = *p.state;
  clear_progress(p, group);
  if (state.abandoned != 0) return;
  if (threadIdx.x == 0 && blockIdx.x == 0) {
    if (group == 0) state.times.planned_ns = global_timer();
    tell_progress(p.world, state.epoch, Stage::dispatch_gemm, -1);
  }
  unsigned long long delivered = 0;  // when the link has all that thread 0 has booked
  for (;;) {
    if (threadIdx.x == 0) {
      is_work = find_piece(p, group, atomicAdd(&p.tickets[group].dispatch, 1U), &piece);
      if (is_work && piece.begin < piece.end) {
        const std::int64_t bytes =
            (piece.end - piece.begin) * (p.dims.row_bytes() + p.dims.weight_bytes());
        const unsigned long long end = book_transfer(p.world, piece.source, p.world.rank, bytes);
        delivered = end > delivered ? end : delivered;
        if (!wait_for_tokens(p, piece.source, piece.block)) {
          state.abandoned = 1;
          is_work = false;
        }
      }
    }
    __syncthreads();
    if (!is_work) break;
    const Piece mine = piece;
    for (std::int32_t i = mine.begin + static_cast<std::int32_t>(threadIdx.x) / kLanes;
         i < mine.end; i += kWarps) {
      copy_token(p, mine.source, i);
    }
    __syncthreads();  // before thread 0 writes the next piece
  }
  if (threadIdx.x != 0) return;
  sleep_until(delivered);
  atomicMax(&state.times.dispatched_ns, global_timer());
}

}  // namespace

void launch_dispatch(const CallParams& params, std::int32_t group, int num_blocks, Follow follow,
                     cudaStream_t stream) {
  launch_kernel(dispatch_kernel, static_cast<unsigned>(num_blocks), kThreads, 0, stream, follow,
                "launching dispatch", params, group);
}

void preload_dispatch_kernel() { preload(dispatch_kernel); }

}  // namespace comet::cuda
