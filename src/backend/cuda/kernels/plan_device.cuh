// SPDX-License-Identifier: Apache-2.0
// What the plan's kernels share: transfer order, a block's choices, an own token's sources. Their
// loops stay rolled up: most turn once or twice in a small plan, which takes as long as its
// instructions take to come from memory.
#pragma once

#include "backend/cuda/device/block_scan.cuh"
#include "backend/cuda/kernels/plan_kernels.hpp"

namespace comet::cuda {

constexpr int kBlockThreads = 128;  // for one block of 64 tokens
constexpr int kBlocksPerSm = 8;     // leaves them 64 registers, or some would spill
constexpr int kMaxRankWords = kMaxPlanRanks / 32;
static_assert(kBlockThreads >= kTokenBlock && kBlockThreads >= kMaxRankWords);

__device__ inline std::int32_t num_blocks_of(const PlanProblem& problem, std::int32_t source) {
  return static_cast<std::int32_t>(num_token_blocks(problem.tokens[source]));
}

__device__ inline std::int32_t group_begin(const PlanProblem& problem, std::int32_t num_blocks,
                                           std::int32_t group) {
  return static_cast<std::int32_t>(group_block_begin(num_blocks, problem.groups, group));
}

// Group of a block of a source with `num_blocks` blocks: the largest g with
// group_block_begin(g) <= block, which is to say num_blocks * g < (block + 1) * groups.
__device__ inline std::int32_t group_of_block(const PlanProblem& problem, std::int32_t num_blocks,
                                              std::int32_t block) {
  return static_cast<std::int32_t>(((std::int64_t{block} + 1) * problem.groups - 1) / num_blocks);
}

// Blocks of all sources before group `group` in transfer order. A whole warp calls it together.
__device__ inline std::int32_t blocks_before_group(const PlanProblem& problem, std::int32_t group) {
  std::int32_t sum = 0;
#pragma unroll 1
  for (std::int32_t s = threadIdx.x % kWarp; s < problem.world; s += kWarp) {
    sum += group_begin(problem, num_blocks_of(problem, s), group);
  }
  return __reduce_add_sync(kFullWarp, sum);
}

// Place in transfer order of block `block` of the source at step `step`: sources of earlier steps
// have their blocks of groups 0..group before it, later ones those of groups before `group`. A
// whole warp calls it together.
__device__ inline std::int32_t transfer_index(const PlanProblem& problem, std::int32_t group,
                                              std::int32_t step, std::int32_t block) {
  std::int32_t sum = 0;
#pragma unroll 1
  for (std::int32_t s = threadIdx.x % kWarp; s < problem.world; s += kWarp) {
    sum += s == step ? block
                     : group_begin(problem, num_blocks_of(problem, source_at_step(problem, s)),
                                   group + (s < step ? 1 : 0));
  }
  return __reduce_add_sync(kFullWarp, sum);
}

// Local experts of the choices of the tokens in `range`, -1 for those of other ranks, to `local`
// in shared memory. Loads are issued kBatch at a time, since each waits for the one before.
template <int kThreads>
__device__ inline void load_choices(const PlanProblem& problem, std::int32_t source,
                                    TokenRange range, std::int16_t* local) {
  constexpr int kBatch = 4;
  const std::uint16_t* ids = problem.ids[source] + std::int64_t{range.begin} * problem.topk;
  const std::int32_t num_choices = (range.end - range.begin) * problem.topk;
#pragma unroll 1
  for (std::int32_t first = threadIdx.x; first < num_choices; first += kBatch * kThreads) {
    std::int32_t experts[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int32_t i = first + j * kThreads;
      experts[j] = local_expert_of(problem, i < num_choices ? ids[i] : kDroppedId);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int32_t i = first + j * kThreads;
      if (i < num_choices) local[i] = static_cast<std::int16_t>(experts[j]);
    }
  }
}

// {needed, rows} of the calling thread's token: thread i has token i of the block.
__device__ inline Sums<2> count_token(const PlanProblem& problem, std::int32_t num_tokens,
                                      const std::int16_t* local) {
  const auto token = static_cast<std::int32_t>(threadIdx.x);
  std::int32_t rows = 0;
  if (token < num_tokens) {
#pragma unroll 1
    for (std::int32_t k = 0; k < problem.topk; ++k) rows += local[token * problem.topk + k] >= 0;
  }
  return {{rows > 0 ? 1 : 0, rows}};
}

// EP ranks of the calling thread's own token (thread i has token i of `range`) to `ep_ranks`
// [kMaxTopk], and the set of all tokens' to `members` in shared memory. Syncs.
__device__ inline std::int32_t find_home_sources(const PlanProblem& problem, TokenRange range,
                                                 std::int32_t* ep_ranks, std::uint32_t* members) {
  if (threadIdx.x < kMaxRankWords) members[threadIdx.x] = 0;
  __syncthreads();
  const std::int32_t token = range.begin + static_cast<std::int32_t>(threadIdx.x);
  std::int32_t count = 0;
  if (token < range.end) {
    count = token_ep_ranks(problem, problem.ids[problem.rank] + std::int64_t{token} * problem.topk,
                           ep_ranks);
  }
#pragma unroll 1
  for (std::int32_t i = 0; i < count; ++i) {
    atomicOr(members + ep_ranks[i] / 32, 1U << (ep_ranks[i] % 32));
  }
  __syncthreads();
  return count;
}

__device__ inline std::int32_t members_of_word(const std::uint32_t* members) {
  return threadIdx.x < kMaxRankWords ? __popc(members[threadIdx.x]) : 0;
}

}  // namespace comet::cuda
