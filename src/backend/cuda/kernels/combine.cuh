// SPDX-License-Identifier: Apache-2.0
// Combine as a stage of its own, for one element type: partial sums are put to their home ranks and
// signalled by (panel, block of 64 tokens), and the home sums what all ranks have put there. One
// rank's partial sums are y at once.
#pragma once

#include "backend/cuda/device/element.cuh"
#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/combine_parts.cuh"
#include "backend/cuda/kernels/launch.cuh"

namespace comet::cuda {
namespace combine {

constexpr int kThreads = 1024;
constexpr int kLanes = 32;
constexpr int kWarps = kThreads / kLanes;
constexpr int kMostPending = 16;

// Columns that a warp has at a time: 16 bytes a lane, and the strips of the combine buffer.
constexpr std::int64_t kStrip = kLanes * kRunOf16Bits;

// A block of 64 tokens and a panel.
struct Item {
  std::int32_t block;  // of Plan::blocks, or own block
  std::int32_t panel;
};

// Adds `count` rows, at most 32, in order, of which each lane knows one: how many elements after
// `base` the lanes' columns of it begin, and its weight. Two loads are on their way at once: each takes
// most of a microsecond, and for more there are no registers. All lanes.
template <typename T>
__device__ __forceinline__ void add_rows(float (&sum)[kRunOf16Bits], int count, const T* base,
                                         std::int64_t offset, float weight, bool has_columns) {
  constexpr int kBatch = 2;
  const T* const from = base + static_cast<int>(threadIdx.x) % kLanes * kRunOf16Bits;
#pragma unroll 1
  for (int first = 0; first < count; first += kBatch) {
    uint4 runs[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const std::int64_t row = __shfl_sync(~0U, offset, first + i);
      if (has_columns && first + i < count) runs[i] = load_run(from + row);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float of_row = __shfl_sync(~0U, weight, first + i);
      if (has_columns && first + i < count) add_run<T>(sum, runs[i], of_row);
    }
  }
}

// Strips of columns: every `stride / kStrip`-th from `begin` on, before `end`.
struct Strips {
  std::int32_t begin;
  std::int32_t end;
  std::int32_t stride;
};

// A warp's part of a block's tokens and a panel: every `step`-th token from `first` on, and strips.
struct WarpShare {
  std::int32_t first;
  std::int32_t step;
  Strips strips;
};

// Where tokens are fewer than warps, several have strips of a token, since a strip's loads wait for
// those before.
__device__ __forceinline__ WarpShare share_of_warp(std::int32_t tokens, const ColumnRange& panel) {
  constexpr auto kWidth = static_cast<std::int32_t>(kStrip);
  const auto begin = static_cast<std::int32_t>(panel.begin);
  const auto end = static_cast<std::int32_t>(panel.end);
  const auto warp = static_cast<std::int32_t>(threadIdx.x) / kLanes;
  const std::int32_t most = (end - begin + kWidth - 1) / kWidth;
  const std::int32_t warps = max(min(most, kWarps / max(tokens, 1)), 1);  // of a token
  return {warp / warps, kWarps / warps, {begin + warp % warps * kWidth, end, warps * kWidth}};
}

// Partial sum of needed token `index` over strips of columns: its rows in expert order, in float32,
// rounded once. A warp.
template <typename T>
__device__ void push_token(const CallParams& p, std::int32_t source, std::int32_t index,
                           const Strips& strips) {
  const NeededToken needed = p.plan.needed[index];
  const std::int32_t count = p.plan.needed[index + 1].row_begin - needed.row_begin;
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % kLanes;
  std::int64_t row = 0;  // the lane's; there are no more than lanes
  float weight = 1.0F;
  if (lane < count) {
    row = p.plan.rows[needed.row_begin + lane].row;
    if (p.weights_after_down) weight = p.row_weights[row];
  }
  const bool is_y = pushes_write_y(p);
  auto* combine = reinterpret_cast<T*>(p.peers[source] + p.layout.combine);
  auto* y = reinterpret_cast<T*>(p.y + needed.token * p.y_stride_bytes);
  const auto* out = reinterpret_cast<const T*>(p.out);
  for (std::int32_t column = strips.begin; column < strips.end; column += strips.stride) {
    const std::int64_t width = min_of(kStrip, p.dims.hidden - column);
    const bool has_columns = lane * kRunOf16Bits < width;
    float sum[kRunOf16Bits] = {};
    add_rows<T>(sum, count, out + column, row * p.dims.hidden, weight, has_columns);
    if (!has_columns) continue;
    T* const to = is_y ? y + column
                       : combine + combine_index(p.dims, column, width, p.world.rank, needed.token);
    store_run_unaligned(to + lane * kRunOf16Bits, round_run<T>(sum));
  }
}

// Sum of own token `token` over strips of columns: all partials in rank order. A warp.
template <typename T>
__device__ void sum_token(const CallParams& p, std::int32_t token, const Strips& strips) {
  const std::int32_t begin = p.plan.token_sources_begin[token];
  const std::int32_t end = p.plan.token_sources_begin[token + 1];
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % kLanes;
  const auto* combine = reinterpret_cast<const T*>(p.peers[p.world.rank] + p.layout.combine);
  auto* y = reinterpret_cast<T*>(p.y + token * p.y_stride_bytes);
  for (std::int32_t column = strips.begin; column < strips.end; column += strips.stride) {
    const std::int64_t width = min_of(kStrip, p.dims.hidden - column);
    const bool has_columns = lane * kRunOf16Bits < width;
    float sum[kRunOf16Bits] = {};
    for (std::int32_t first = begin; first < end; first += kLanes) {
      const std::int32_t source = first + lane < end ? p.plan.token_sources[first + lane] : 0;
      add_rows<T>(sum, static_cast<int>(min_of(kLanes, end - first)), combine,
                  combine_index(p.dims, column, width, source, token), 1.0F, has_columns);
    }
    if (has_columns) store_run_unaligned(y + column + lane * kRunOf16Bits, round_run<T>(sum));
  }
}

// Takes the next item of `count` blocks, panels outermost; false if there is none. All threads.
__device__ inline bool take_item(const CallParams& p, std::uint32_t* ticket, std::int32_t count,
                                 Item* item) {
  __shared__ std::uint32_t taken;
  __syncthreads();
  if (threadIdx.x == 0) taken = atomicAdd(ticket, 1U);
  __syncthreads();
  if (count == 0 || taken >= count * p.panels.count()) return false;
  item->block = static_cast<std::int32_t>(taken) % count;
  item->panel = static_cast<std::int32_t>(taken) / count;
  return true;
}

template <typename T>
__device__ void push_all(const CallParams& p, std::int32_t group, PendingSignals<kMostPending>& signals) {
  const std::uint32_t epoch = p.state->epoch;
  const std::int32_t first = p.plan.group_blocks[group];
  const std::int32_t count = p.plan.group_blocks[group + 1] - first;
  Item item{};
  while (take_item(p, &p.tickets[group].push, count, &item)) {
    const BlockTransfer block = p.plan.blocks[first + item.block];
    const ColumnRange panel = columns_of(p, item.panel);
    const WarpShare share = share_of_warp(block.needed_end - block.needed_begin, panel);
    for (std::int32_t i = block.needed_begin + share.first; i < block.needed_end; i += share.step) {
      push_token<T>(p, block.source, i, share.strips);
    }
    if (pushes_write_y(p)) continue;
    __syncthreads();
    if (threadIdx.x != 0) continue;
    const std::int64_t bytes =
        (block.needed_end - block.needed_begin) * (panel.end - panel.begin) * p.dims.element_bytes;
    signals.add(combine_slot_at(p, block.source, p.world.rank, item.panel, block.block), epoch,
                book_transfer(p.world, p.world.rank, block.source, bytes));
    signals.send_due(epoch);
  }
  if (threadIdx.x == 0) signals.send_all(epoch);
}

// Waits for the partials of all sources of an own block. All threads; false if the wait failed. One
// thread looks at one slot at a time, since all must be there anyway.
__device__ inline bool wait_for_partials(const CallParams& p, const Item& item) {
  bool is_there = true;
  if (threadIdx.x == 0) {
    const std::int32_t end = p.plan.block_sources_begin[item.block + 1];
    for (std::int32_t i = p.plan.block_sources_begin[item.block]; i < end && is_there; ++i) {
      const std::int32_t source = p.plan.block_sources[i];
      is_there = wait_for_epoch(p.world, combine_slot_at(p, p.world.rank, source, item.panel, item.block),
                                {.stage = Stage::gemm_combine,
                                 .epoch = p.state->epoch,
                                 .source = source,
                                 .panel = item.panel,
                                 .block = item.block});
    }
  }
  return __syncthreads_and(is_there) != 0;
}

// Tokens [begin, end) that have no partial, all columns; a warp each.
template <typename T>
__device__ void zero_tokens(const CallParams& p, std::int32_t begin, std::int32_t end) {
  const auto warp = static_cast<std::int32_t>(blockIdx.x * kWarps + threadIdx.x / kLanes);
  const auto warps = static_cast<std::int32_t>(gridDim.x * kWarps);
  for (std::int32_t token = begin + warp; token < end; token += warps) {
    if (p.plan.token_sources_begin[token] != p.plan.token_sources_begin[token + 1]) continue;
    const auto hidden = static_cast<std::int32_t>(p.dims.hidden);
    sum_token<T>(p, token, {0, hidden, static_cast<std::int32_t>(kStrip)});
  }
}

template <typename T>
__device__ void sum_all(const CallParams& p, std::int32_t group) {
  const std::int32_t tokens = p.tokens[p.world.rank];
  const std::int64_t blocks = num_token_blocks(tokens);
  const auto first = static_cast<std::int32_t>(group_block_begin(blocks, p.config.groups, group));
  const auto count =
      static_cast<std::int32_t>(group_block_begin(blocks, p.config.groups, group + 1)) - first;
  if (pushes_write_y(p)) {
    zero_tokens<T>(p, block_tokens(tokens, first).begin,
                   block_tokens(tokens, first + count - 1).end);
    return;
  }
  Item item{};
  while (take_item(p, &p.tickets[group].home, count, &item)) {
    item.block += first;
    if (!wait_for_partials(p, item)) {
      if (threadIdx.x == 0) p.state->abandoned = 1;
      return;
    }
    const TokenRange range = block_tokens(tokens, item.block);
    const WarpShare share = share_of_warp(range.end - range.begin, columns_of(p, item.panel));
    for (std::int32_t token = range.begin + share.first; token < range.end; token += share.step) {
      sum_token<T>(p, token, share.strips);
    }
  }
}

// All pushes are taken before any home sum, so that no block waits for another rank while that one
// may wait for a push of this.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(const __grid_constant__ CallParams p, std::int32_t group) {
  __shared__ PendingSignals<kMostPending> signals;
  wait_for_kernels_before();
  if (p.world.size == 1) let_next_kernel_start();  // it waits for no other rank
  if (p.state->abandoned != 0) return;
  if (threadIdx.x == 0) {
    signals.clear();
    if (blockIdx.x == 0) {
      p.state->times.computed_ns = global_timer();
      tell_progress(p.world, p.state->epoch, Stage::gemm_combine, -1);
    }
  }
  push_all<T>(p, group, signals);
  sum_all<T>(p, group);
}

template <typename T>
void launch(const CallParams& params, std::int32_t group, int num_blocks, Follow follow,
            cudaStream_t stream) {
  launch_kernel(combine_kernel<T>, static_cast<unsigned>(num_blocks), kThreads, 0, stream, follow,
                "launching combine", params, group);
}

}  // namespace combine
}  // namespace comet::cuda
