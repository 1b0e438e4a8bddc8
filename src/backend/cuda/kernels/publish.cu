// SPDX-License-Identifier: Apache-2.0
// The start of a call, on the device: publish, the copy of x, and reading what all ranks have
// published.
#include <algorithm>

#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/publish.cuh"
#include "base/int_math.hpp"

namespace comet::cuda {
namespace {

constexpr int kPublishThreads = 256;
constexpr int kHeaderThreads = 512;

__device__ std::uint32_t* copied_slot(const CallParams& p, std::int32_t at, std::int32_t source) {
  return reinterpret_cast<std::uint32_t*>(p.peers[at] + p.layout.copied) + source;
}

// A row by a warp, four loads of each lane on their way at once: few warps then do, and leave room
// for the kernels beside them.
template <typename Word>
__device__ __forceinline__ void copy_row(std::byte* to, const std::byte* from, std::int64_t bytes) {
  constexpr int kBatch = 4;
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % kLanes;
  const Word* in = reinterpret_cast<const Word*>(from) + lane;
  Word* out = reinterpret_cast<Word*>(to) + lane;
  auto left = static_cast<std::int32_t>(bytes / static_cast<std::int64_t>(sizeof(Word))) - lane;
#pragma unroll 1
  for (; left > 0; left -= kBatch * kLanes) {
    Word values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (i * kLanes < left) values[i] = in[i * kLanes];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (i * kLanes < left) out[i * kLanes] = values[i];
    }
    in += kBatch * kLanes;
    out += kBatch * kLanes;
  }
}

// A warp per row; rows of the workspace are aligned to 16 bytes, the caller's perhaps to 2.
__device__ void write_tokens(const CallParams& p, std::int32_t tokens) {
  std::byte* own = p.peers[p.world.rank] + p.layout.x;
  const std::int64_t row_bytes = p.dims.row_bytes();
  for (std::int64_t t = grid_thread() / kLanes; t < tokens; t += grid_threads() / kLanes) {
    const std::byte* from = p.x + t * p.x_stride_bytes;
    std::byte* to = own + t * row_bytes;
    if ((reinterpret_cast<std::uintptr_t>(from) & 15U) == 0) {
      copy_row<uint4>(to, from, row_bytes);
    } else {
      copy_row<std::uint16_t>(to, from, row_bytes);
    }
  }
}

// Waits for the x of the rank at `source`, after its header, so that a rank that stays away is
// named as read_headers_kernel names it; of a fault there is none. One thread; false if the wait
// failed.
__device__ bool wait_for_x(const CallParams& p, std::int32_t source, std::uint32_t epoch) {
  if (source == p.world.rank) return true;
  // What remote ranks put is waited for block by block, see wait_for_tokens.
  if (p.world.is_remote != nullptr && p.world.is_remote[source] != 0) return true;
  if (!wait_for_epoch(p.world, published_slot(p, p.world.rank, source),
                      {.stage = Stage::publish, .epoch = epoch, .source = source})) {
    return false;
  }
  const HeaderHead head = read_head(header_of(p, source, epoch));
  if (head.epoch == epoch && head.seen.fault != 0) return true;
  return wait_for_epoch(p.world, copied_slot(p, p.world.rank, source),
                        {.stage = Stage::dispatch_gemm, .epoch = epoch, .source = source});
}

__global__ void __launch_bounds__(kPublishThreads, 4)
    publish_kernel(const __grid_constant__ CallParams p,
                   const __grid_constant__ FaultSentence sentence) {
  let_next_kernel_start();
  CallState& state = *p.state;
  const CallStart start = start_call(p);
  if (start.is_sound) {
    write_routing(p, start);
    if (p.copies_x && !p.copies_beside_plan) write_tokens(p, start.tokens);
  }
  if (!is_last_block(&state.done_blocks)) return;
  if (p.world.size == 1) return open_lone_call<kPublishThreads>(p, sentence, start);
  if (threadIdx.x == 0) open_call(p, sentence, start);
  __syncthreads();
  // Each signal releases what thread 0 and, through is_last_block, all blocks have written.
  for (std::int32_t step = static_cast<std::int32_t>(threadIdx.x); step < p.world.size;
       step += kPublishThreads) {
    const std::int32_t peer = (p.world.rank + step) % p.world.size;
    // Ranks of this layer do not look at it; one that runs another, by mistake, may wait for it.
    if (!p.copies_beside_plan)
      store_relaxed_system(copied_slot(p, peer, p.world.rank), start.epoch);
    store_release_system(published_slot(p, peer, p.world.rank), start.epoch);
  }
  if (threadIdx.x == 0) state.times.published_ns = global_timer();
}

// On a stream of its own beside read_headers_kernel and the plan, hence a counter of its own. After
// a header with a fault nothing is copied, signalled or waited for: a call that overlaps another,
// by mistake, would signal before that one does, whose signal would then go back. Signals come
// before waits, so no rank's copy depends on another's. With registers for five blocks on a
// multiprocessor, the two that it gets leave more than half of them to others.
__global__ void __launch_bounds__(kPublishThreads, 5)
    copy_tokens_kernel(const __grid_constant__ CallParams p) {
  CallState& state = *p.state;
  const std::uint32_t epoch = state.epoch;
  if (grid_thread() == 0) state.times.tokens_begin_ns = global_timer();
  write_tokens(p, state.own_tokens);
  if (!is_last_block(&state.copied_blocks)) return;
  if (threadIdx.x == 0) state.times.tokens_end_ns = global_timer();
  if (state.own_fault != 0) return;
  const auto first = static_cast<std::int32_t>(threadIdx.x);
#pragma unroll 1
  for (std::int32_t step = first; step < p.world.size; step += kPublishThreads) {
    const std::int32_t peer = (p.world.rank + step) % p.world.size;
    store_release_system(copied_slot(p, peer, p.world.rank), epoch);
  }
  __syncthreads();  // all have signalled before any waits
#pragma unroll 1
  for (std::int32_t source = first; source < p.world.size; source += kPublishThreads) {
    if (!wait_for_x(p, source, epoch)) state.abandoned = 1;
  }
}

// As many blocks for each source as share its ids.
__global__ void __launch_bounds__(kHeaderThreads, 2)
    read_headers_kernel(const __grid_constant__ CallParams p) {
  __shared__ bool is_there;
  wait_for_kernels_before();
  CallState& state = *p.state;
  const std::uint32_t epoch = state.epoch;
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  const SourcePart part{block / p.world.size, static_cast<std::int32_t>(gridDim.x) / p.world.size};
  const std::int32_t source = (p.world.rank + block) % p.world.size;
  if (threadIdx.x == 0) {
    is_there = wait_for_epoch(p.world, published_slot(p, p.world.rank, source),
                              {.stage = Stage::publish, .epoch = epoch, .source = source});
    if (!is_there) state.abandoned = 1;
  }
  __syncthreads();
  // This rank's plan waits for nobody else; what follows here waits, up to the limit, only for the
  // fault of a rank that has died.
  let_next_kernel_start();
  if (is_there) read_source<kHeaderThreads>(p, source, epoch, part);
  if (!is_last_block(&state.done_blocks)) return;
  agree_on_call<kHeaderThreads>(p, epoch);
}

}  // namespace

void launch_publish(const CallParams& params, const FaultSentence& sentence, int num_blocks,
                    cudaStream_t stream) {
  launch_after_all(publish_kernel, static_cast<unsigned>(num_blocks), kPublishThreads, 0, stream,
                   "launching publish", params, sentence);
}

void launch_copy_tokens(const CallParams& params, int num_blocks, cudaStream_t stream) {
  launch_after_all(copy_tokens_kernel, static_cast<unsigned>(num_blocks), kPublishThreads, 0,
                   stream, "launching the copy of tokens", params);
}

void launch_read_headers(const CallParams& params, cudaStream_t stream) {
  // A batch of loads each, so that their latency is paid once; but all at once on a rank's part of
  // a GPU, since each waits for its source's header.
  constexpr std::int64_t kMostParts = 4;
  constexpr std::int64_t kMostBlocks = 32;
  const std::int64_t bytes = params.dims.max_tokens * params.dims.topk * 2;
  const std::int64_t most =
      std::clamp<std::int64_t>(kMostBlocks / params.world.size, 1, kMostParts);
  const std::int64_t parts = std::clamp<std::int64_t>(
      ceil_div(bytes, std::int64_t{kIdBatch} * kHeaderThreads * 16), 1, most);
  launch_kernel(read_headers_kernel, static_cast<unsigned>(params.world.size * parts),
                kHeaderThreads, 0, stream, Follow::closely, "launching the reading of headers",
                params);
}

void preload_publish_kernels() {
  preload(publish_kernel);
  preload(copy_tokens_kernel);
  preload(read_headers_kernel);
}

}  // namespace comet::cuda
