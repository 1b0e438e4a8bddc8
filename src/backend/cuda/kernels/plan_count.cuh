// SPDX-License-Identifier: Apache-2.0
// First step of a plan: the rows of every block of 64 tokens, the sources of every own block.
#pragma once

#include "backend/cuda/kernels/plan_device.cuh"

namespace comet::cuda {

inline std::size_t count_shared_bytes(const PlanProblem& problem) {
  return sizeof(std::int32_t) * problem.num_local +
         kTokenBlock * problem.topk * sizeof(std::int16_t);
}

// count_block by all threads of a thread block, for the source at step `step`. `shared`:
// count_shared_bytes.
template <int kThreads>
__device__ void count_source_block(const PlanProblem& problem, const DevicePlanView& view,
                                   std::int32_t step, std::int32_t block, std::int32_t* shared) {
  const std::int32_t source = source_at_step(problem, step);
  const std::int32_t tokens = problem.tokens[source];
  const std::int32_t num_blocks = num_blocks_of(problem, source);
  if (block >= num_blocks) return;  // all threads alike
  std::int32_t* expert_rows = shared;
  auto* local = reinterpret_cast<std::int16_t*>(expert_rows + problem.num_local);
  const TokenRange range = block_tokens(tokens, block);
#pragma unroll 1
  for (std::int32_t e = threadIdx.x; e < problem.num_local; e += kThreads) expert_rows[e] = 0;
  load_choices<kThreads>(problem, source, range, local);
  const std::int32_t group = group_of_block(problem, num_blocks, block);
  const std::int32_t index = transfer_index(problem, group, step, block);
  __syncthreads();

  const std::int32_t num_tokens = range.end - range.begin;
#pragma unroll 1
  for (std::int32_t i = threadIdx.x; i < num_tokens * problem.topk; i += kThreads) {
    if (local[i] >= 0) atomicAdd(expert_rows + local[i], 1);
  }
  Sums<2> total;
  block_exclusive<kThreads>(count_token(problem, num_tokens, local), total);  // syncs
#pragma unroll 1
  for (std::int32_t e = threadIdx.x; e < problem.num_local; e += kThreads) {
    view.block_rows[e * view.block_stride + index] = expert_rows[e];
  }
  if (threadIdx.x == 0) {
    view.counted[index] = {group, step, block, {total.v[0], total.v[1]}};
    view.num_block_tiles[index] = 0;
    view.num_block_done[index] = 0;
  }
}

template <int kThreads>
__device__ void count_home_block(const PlanProblem& problem, const DevicePlanView& view,
                                 std::int32_t block) {
  __shared__ std::uint32_t members[kMaxRankWords];
  const std::int32_t tokens = problem.tokens[problem.rank];
  if (block >= num_blocks_of(problem, problem.rank)) return;  // all threads alike
  std::int32_t ep_ranks[kMaxTopk];
  const std::int32_t count =
      find_home_sources(problem, block_tokens(tokens, block), ep_ranks, members);
  std::int32_t own = 0;
#pragma unroll 1
  for (std::int32_t i = 0; i < count; ++i) own += ep_ranks[i] == problem.rank / problem.tp;
  Sums<3> total;
  block_exclusive<kThreads>(
      Sums<3>{{count * problem.tp, members_of_word(members) * problem.tp, own}}, total);
  if (threadIdx.x == 0) {
    view.home_counts[block] = {total.v[0], total.v[1], total.v[0] - total.v[2]};
  }
}

}  // namespace comet::cuda
