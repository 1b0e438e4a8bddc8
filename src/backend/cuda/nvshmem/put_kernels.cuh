// SPDX-License-Identifier: Apache-2.0
// Puts of a call by NVSHMEM's device functions, a warp each. A part of a symmetric workspace lies
// at the same place of every process's heap, so an address in the own copy of a part is the target,
// too.
#pragma once

#include <nvshmem.h>
#include <nvshmemx.h>

#include "backend/cuda/kernels/combine_parts.cuh"

namespace comet::cuda {

constexpr int kLanes = 32;
constexpr int kCarryThreads = 512;
constexpr int kCarryWarps = kCarryThreads / kLanes;

__device__ inline std::int32_t put_lane() {
  return static_cast<std::int32_t>(threadIdx.x) % kLanes;
}
__device__ inline std::int32_t put_warp() {
  return static_cast<std::int32_t>(threadIdx.x) / kLanes;
}

/// The bytes at `at` to the same place in `rank`'s heap. All lanes of a warp.
__device__ inline void put_bytes(std::byte* at, std::int64_t bytes, std::int32_t rank) {
  if (bytes > 0) nvshmemx_putmem_nbi_warp(at, at, static_cast<std::size_t>(bytes), rank);
}

/// `value` to the same slot in `rank`'s heap, once all that the warp has put there before has
/// arrived. All lanes.
__device__ inline void put_signal(std::uint32_t* slot, std::uint32_t value, std::int32_t rank) {
  __syncwarp();
  nvshmem_fence();
  __syncwarp();
  if (put_lane() != 0) return;
  __threadfence_system();  // of what other lanes have stored, where a put is a store
  nvshmem_uint32_p(slot, value, rank);
}

__device__ inline bool is_remote(const CallParams& p, std::int32_t rank) {
  return p.world.is_remote[rank] != 0;
}

/// Whether `rank` is among the ascending ranks [begin, end) of `sources`.
__device__ inline bool has_rank(const std::int32_t* sources, std::int32_t begin, std::int32_t end,
                                std::int32_t rank) {
  for (std::int32_t i = begin; i < end; ++i) {
    if (sources[i] == rank) return true;
  }
  return false;
}

/// A warp per remote rank.
__global__ void __launch_bounds__(kCarryThreads)
    put_published_kernel(const __grid_constant__ CallParams p) {
  const std::uint32_t epoch = p.state->epoch;
  std::byte* const own = p.peers[p.world.rank];
  std::byte* const header = own + p.layout.header[epoch & 1U];
  const std::int64_t tokens = reinterpret_cast<const CallHeader*>(header)->tokens;
  for (std::int32_t step = 1 + put_warp(); step < p.world.size; step += kCarryWarps) {
    const std::int32_t rank = (p.world.rank + step) % p.world.size;
    if (!is_remote(p, rank)) continue;
    put_bytes(header, sizeof(CallHeader), rank);
    put_bytes(own + p.layout.ids[epoch & 1U], tokens * p.dims.topk * 2, rank);
    auto* const slots = reinterpret_cast<std::uint32_t*>(p.peers[rank] + p.layout.published);
    put_signal(slots + p.world.rank, epoch, rank);
  }
}

/// The own tokens of `range` that `rank` needs, with their weights.
__device__ inline void put_tokens(const CallParams& p, const TokenRange& range, std::int32_t rank) {
  std::byte* const own = p.peers[p.world.rank];
  std::byte* const weights = own + p.layout.weights[p.state->epoch & 1U];
  const std::int32_t* const begins = p.plan.token_sources_begin;
  for (std::int32_t first = range.begin; first < range.end; first += kLanes) {
    const std::int32_t mine = first + put_lane();
    const bool is_needed =
        mine < range.end && has_rank(p.plan.token_sources, begins[mine], begins[mine + 1], rank);
    for (unsigned left = __ballot_sync(~0U, is_needed); left != 0; left &= left - 1) {
      const std::int64_t token = first + __ffs(static_cast<int>(left)) - 1;
      put_bytes(own + p.layout.x + token * p.dims.row_bytes(), p.dims.row_bytes(), rank);
      put_bytes(weights + token * p.dims.weight_bytes(), p.dims.weight_bytes(), rank);
    }
  }
}

/// All tokens that remote ranks need, in the order in which these visit their sources. Waits for
/// nobody.
__device__ inline void carry_tokens(const CallParams& p) {
  const std::int32_t tokens = p.tokens[p.world.rank];
  const auto blocks = static_cast<std::int32_t>(num_token_blocks(tokens));
  for (std::int32_t item = put_warp(); item < blocks * (p.world.size - 1); item += kCarryWarps) {
    // The rank whose source at this step is this one, see source_at_step.
    const std::int32_t step = 1 + item / blocks;
    const std::int32_t rank = (p.world.rank + p.world.size - step) % p.world.size;
    const std::int32_t block = item % blocks;
    if (!is_remote(p, rank)) continue;
    if (!has_rank(p.plan.block_sources, p.plan.block_sources_begin[block],
                  p.plan.block_sources_begin[block + 1], rank)) {
      continue;
    }
    put_tokens(p, block_tokens(tokens, block), rank);
    auto* const slots = reinterpret_cast<std::uint32_t*>(p.peers[rank] + p.layout.sent);
    put_signal(slots + sent_slot(p.world.rank, block, num_token_blocks(p.dims.max_tokens)),
               p.state->epoch, rank);
  }
}

/// The partials of a block in one panel, which lie in the own mirror of their home: tokens that
/// follow each other in one put for each strip of columns.
__device__ inline void put_partials(const CallParams& p, const BlockTransfer& block,
                                    std::int32_t panel) {
  std::byte* const combine = p.peers[block.source] + p.layout.combine;
  const ColumnRange columns = columns_of(p, panel);
  for (std::int32_t first = block.needed_begin; first < block.needed_end;) {
    const std::int32_t token = p.plan.needed[first].token;
    std::int32_t count = 1;
    while (first + count < block.needed_end &&
           p.plan.needed[first + count].token == token + count) {
      ++count;
    }
    for (std::int64_t column = columns.begin; column < columns.end; column += p.dims.panel_n) {
      const std::int64_t width = min_of(p.dims.panel_n, columns.end - column);
      const std::int64_t at = combine_index(p.dims, column, width, p.world.rank, token);
      put_bytes(combine + at * p.dims.element_bytes, count * width * p.dims.element_bytes,
                block.source);
    }
    first += count;
  }
}

/// Partials of remote homes as they come into the mirrors, by group, then panel: a rank waits for
/// those of one group before it makes the next. False if a wait failed.
__device__ inline bool carry_partials(const CallParams& p) {
  const std::uint32_t epoch = p.state->epoch;
  const std::int32_t panels = p.panels.count();
  for (std::int32_t group = 0; group < p.config.groups; ++group) {
    const std::int32_t first = p.plan.group_blocks[group];
    const std::int32_t count = p.plan.group_blocks[group + 1] - first;
    for (std::int32_t item = put_warp(); item < count * panels; item += kCarryWarps) {
      const BlockTransfer block = p.plan.blocks[first + item % count];
      const std::int32_t panel = item / count;
      if (!is_remote(p, block.source)) continue;
      std::uint32_t* const slot =
          combine_slot_at(p, block.source, p.world.rank, panel, block.block);
      bool is_there = true;
      if (put_lane() == 0) {
        is_there = wait_for_epoch(p.world, slot,
                                  {.stage = Stage::gemm_combine,
                                   .epoch = epoch,
                                   .source = p.world.rank,
                                   .panel = panel,
                                   .block = block.block});
      }
      __syncwarp();  // a vote orders no memory, and all lanes put what lane 0 has acquired
      if (__all_sync(~0U, is_there) == 0) return false;
      put_partials(p, block, panel);
      put_signal(slot, epoch, block.source);
    }
  }
  return true;
}

/// One block.
__global__ void __launch_bounds__(kCarryThreads)
    carry_kernel(const __grid_constant__ CallParams p) {
  if (p.state->abandoned != 0) return;
  carry_tokens(p);
  if (!carry_partials(p) && put_lane() == 0) p.state->abandoned = 1;
}

}  // namespace comet::cuda
