// SPDX-License-Identifier: Apache-2.0
// Fourth step of a plan: tiles, transfers, rows and the walk, each block of 64 tokens by itself.
#pragma once

#include "backend/cuda/kernels/overlap_order.cuh"
#include "backend/cuda/kernels/plan_device.cuh"
#include "backend/cuda/kernels/plan_slots.cuh"

namespace comet::cuda {

inline std::size_t place_shared_bytes(const PlanProblem& problem) {
  const std::size_t num_choices = kTokenBlock * problem.topk;
  return sizeof(std::int32_t) * problem.num_local +
         num_choices * (sizeof(std::int32_t) + sizeof(std::int16_t));
}

// Rows of a block in an expert's segment: [begin, end) of segment_rows, whose first tile is segment_tile.
struct ExpertRows {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int32_t segment_rows = 0;
  std::int32_t segment_tile = 0;
};

__device__ inline ExpertRows rows_of_expert(const PlanProblem& problem, const DevicePlanView& view,
                                            std::int32_t group, std::int32_t index,
                                            std::int32_t expert) {
  if (expert >= problem.num_local) return {};
  const std::int64_t cell = expert * view.block_stride + index;
  const std::int32_t segment = group * problem.num_local + expert;
  const std::int32_t begin = view.block_first[cell];
  return {begin, begin + view.block_rows[cell], view.expert_rows[segment],
          view.segment_tile[segment]};
}

// The tiles that hold rows of block `index`, those of them that it completes (with their place in
// the walk), and the row slot of its first row of each expert to `next_row` in shared memory. A
// tile is completed by exactly one block, the one that has its last row, so each tile is written
// once; and a block completes tiles in index order, so the walk is sorted without sorting. `rows`
// are those of the calling thread's expert, whose number is the thread's.
template <int kThreads>
__device__ void place_tiles(const PlanProblem& problem, const DevicePlanView& view,
                            const CountedBlock& block, const BlockOffsets& offsets,
                            std::int32_t index, ExpertRows rows, std::int32_t* next_row) {
  Sums<2> at{{offsets.tile, offsets.walk}};
#pragma unroll 1
  for (std::int32_t piece = 0; piece < problem.num_local; piece += kThreads) {
    const std::int32_t expert = piece + static_cast<std::int32_t>(threadIdx.x);
    if (piece > 0) rows = rows_of_expert(problem, view, block.group, index, expert);
    const auto [begin, end, segment_rows, segment_tile] = rows;
    if (expert < problem.num_local) next_row[expert] = segment_tile * problem.block_m + begin;
    Sums<2> mine{};
    if (end > begin) {
      const std::int32_t first_tile = begin / problem.block_m;
      const bool has_tail = end == segment_rows && segment_rows % problem.block_m != 0;
      mine = {{(end - 1) / problem.block_m - first_tile + 1,
               end / problem.block_m - first_tile + (has_tail ? 1 : 0)}};
    }
    Sums<2> total;
    Sums<2> to = at + block_exclusive<kThreads>(mine, total);
    const std::int32_t first_tile = begin / problem.block_m;
#pragma unroll 1
    for (std::int32_t t = first_tile; t < first_tile + mine.v[0]; ++t) {
      const auto tile_end =
          static_cast<std::int32_t>(min_of((std::int64_t{t} + 1) * problem.block_m, segment_rows));
      view.block_tiles[to.v[0]++] = segment_tile + t;
      if (tile_end > end) continue;  // a later block completes it
      view.tiles[segment_tile + t] = {block.group, expert, tile_end - t * problem.block_m,
                                      block.step, offsets.entry};
      view.walk[to.v[1]++] = segment_tile + t;
    }
    at = at + total;
  }
}

// place_block and the block's entry, and its part of the order if that comes with the plan, by all threads
// of a thread block. `shared`: place_shared_bytes.
template <int kThreads>
__device__ void place_source_block(const PlanProblem& problem, const DevicePlanView& view,
                                   const OrderProblem& wanted, std::int32_t index,
                                   std::int32_t* shared) {
  __shared__ std::int32_t token_rows[kTokenBlock];     // first row of each token within the block
  if (index >= view.counters->num_all_blocks) return;  // all threads alike, here and below
  const CountedBlock block = view.counted[index];
  const BlockOffsets offsets = view.offsets[index];
  if (block.counts.needed == 0) return;
  const std::int32_t source = source_at_step(problem, block.step);
  const TokenRange range = block_tokens(problem.tokens[source], block.block);
  const std::int32_t num_tokens = range.end - range.begin;
  const std::int32_t num_choices = num_tokens * problem.topk;
  std::int32_t* next_row = shared;
  std::int32_t* slots = next_row + problem.num_local;
  auto* local = reinterpret_cast<std::int16_t*>(slots + kTokenBlock * problem.topk);

  // Loads that need not wait for each other come together.
  const ExpertRows rows = rows_of_expert(problem, view, block.group, index,
                                         static_cast<std::int32_t>(threadIdx.x));
  load_choices<kThreads>(problem, source, range, local);
  place_tiles<kThreads>(problem, view, block, offsets, index, rows, next_row);
  __syncthreads();
  if (threadIdx.x == 0) {
    view.blocks[offsets.entry] = {block.group,
                                  source,
                                  block.block,
                                  offsets.needed,
                                  offsets.needed + block.counts.needed,
                                  offsets.tile,
                                  offsets.tile + view.num_block_tiles[index]};
  }
  const Sums<2> mine = count_token(problem, num_tokens, local);
  Sums<2> total;
  const Sums<2> before = block_exclusive<kThreads>(mine, total);
  const auto token = static_cast<std::int32_t>(threadIdx.x);
  if (token < num_tokens) token_rows[token] = before.v[1];
  if (mine.v[0] > 0) {
    view.needed[offsets.needed + before.v[0]] = {range.begin + token, offsets.row + before.v[1]};
  }
  if (threadIdx.x < kWarp) assign_slots(num_choices, local, next_row, slots);
  __syncthreads();

  if (wanted.comes_with_plan()) {
    order_block<kThreads>(problem, view, wanted, source, block.block, block.counts.needed,
                          offsets.needed + before.v[0],
                          {range.begin + token, static_cast<std::int16_t>(source),
                           static_cast<std::int16_t>(mine.v[1]), offsets.row + before.v[1], -1},
                          local + token * problem.topk, slots + token * problem.topk);
  }
#pragma unroll 1
  for (std::int32_t i = threadIdx.x; i < num_choices; i += kThreads) {
    const std::int32_t of_token = i / problem.topk;
    place_choice(problem, local + of_token * problem.topk, i - of_token * problem.topk, slots[i],
                 view.rows + offsets.row + token_rows[of_token]);
  }
}

template <int kThreads>
__device__ void place_home_block(const PlanProblem& problem, const DevicePlanView& view,
                                 std::int32_t block) {
  __shared__ std::uint32_t members[kMaxRankWords];
  const std::int32_t tokens = problem.tokens[problem.rank];
  if (block >= num_blocks_of(problem, problem.rank)) return;  // all threads alike
  const TokenRange range = block_tokens(tokens, block);
  const HomeCounts offsets = view.home_offsets[block];
  std::int32_t ep_ranks[kMaxTopk];
  const std::int32_t count = find_home_sources(problem, range, ep_ranks, members);
  Sums<2> total;
  const Sums<2> before = block_exclusive<kThreads>(
      Sums<2>{{count * problem.tp, members_of_word(members) * problem.tp}}, total);
  const std::int32_t token = range.begin + static_cast<std::int32_t>(threadIdx.x);
  std::int32_t at = offsets.token_sources + before.v[0];
  if (token < range.end) view.token_sources_begin[token] = at;
#pragma unroll 1
  for (std::int32_t i = 0; i < count; ++i) {
#pragma unroll 1
    for (std::int32_t j = 0; j < problem.tp; ++j) {
      view.token_sources[at++] = ep_ranks[i] * problem.tp + j;
    }
  }
  at = offsets.block_sources + before.v[1];
  std::uint32_t left = threadIdx.x < kMaxRankWords ? members[threadIdx.x] : 0;
#pragma unroll 1
  for (; left != 0; left &= left - 1) {
    const std::int32_t ep_rank = static_cast<std::int32_t>(threadIdx.x) * 32 + __ffs(left) - 1;
#pragma unroll 1
    for (std::int32_t j = 0; j < problem.tp; ++j) {
      view.block_sources[at++] = ep_rank * problem.tp + j;
    }
  }
}

}  // namespace comet::cuda
