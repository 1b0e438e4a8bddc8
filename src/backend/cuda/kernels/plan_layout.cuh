// SPDX-License-Identifier: Apache-2.0
// Third step of a plan: prefix sums over blocks, segments and own blocks, each by all threads of a
// thread block.
#pragma once

#include "backend/cuda/kernels/plan_device.cuh"

namespace comet::cuda {

template <int kThreads>
__device__ void lay_out_blocks(const PlanProblem& problem, const DevicePlanView& view) {
  const std::int32_t num_blocks = blocks_before_group(problem, problem.groups);
  Sums<6> sum{};  // entries, needed, rows, tiles, completed tiles, needed from other ranks
#pragma unroll 1
  for (std::int32_t piece = 0; piece < num_blocks; piece += kThreads) {
    const std::int32_t i = piece + static_cast<std::int32_t>(threadIdx.x);
    Sums<6> mine{};
    if (i < num_blocks) {
      const CountedBlock block = view.counted[i];
      mine = {{block.counts.needed > 0 ? 1 : 0, block.counts.needed, block.counts.rows,
               view.num_block_tiles[i], view.num_block_done[i],
               block.step == 0 ? 0 : block.counts.needed}};
    }
    Sums<6> total;
    const Sums<6> at = sum + block_exclusive<kThreads>(mine, total);
    if (i < num_blocks) view.offsets[i] = {at.v[0], at.v[1], at.v[2], at.v[3], at.v[4]};
    sum = sum + total;
  }
  __syncthreads();  // offsets are read by other threads below
  const std::int32_t warp = static_cast<std::int32_t>(threadIdx.x) / kWarp;
#pragma unroll 1
  for (std::int32_t group = warp; group <= problem.groups; group += kThreads / kWarp) {
    const std::int32_t first = blocks_before_group(problem, group);
    if (threadIdx.x % kWarp == 0) {
      view.group_blocks[group] = first < num_blocks ? view.offsets[first].entry : sum.v[0];
    }
  }
  if (threadIdx.x == 0) {
    view.counters->num_blocks = sum.v[0];
    view.counters->num_needed = sum.v[1];
    view.counters->num_block_tiles = sum.v[3];
    view.counters->tokens_in = sum.v[5];
    view.counters->num_all_blocks = num_blocks;
    view.needed[sum.v[1]] = {0, sum.v[2]};
  }
}

template <int kThreads>
__device__ void lay_out_segments(const PlanProblem& problem, const DevicePlanView& view) {
  const std::int32_t num_segments = problem.groups * problem.num_local;
  Sums<2> sum{};  // tiles, rows
#pragma unroll 1
  for (std::int32_t piece = 0; piece < num_segments; piece += kThreads) {
    const std::int32_t i = piece + static_cast<std::int32_t>(threadIdx.x);
    const std::int32_t rows = i < num_segments ? view.expert_rows[i] : 0;
    const auto tiles = static_cast<std::int32_t>(ceil_div(rows, problem.block_m));
    Sums<2> total;
    const Sums<2> at = sum + block_exclusive<kThreads>(Sums<2>{{tiles, rows}}, total);
    if (i < num_segments) {
      view.segment_tile[i] = at.v[0];
      if (i % problem.num_local == 0) view.group_tiles[i / problem.num_local] = at.v[0];
    }
    sum = sum + total;
  }
  // The end of the last group, and of all groups where the rank has no expert.
#pragma unroll 1
  for (std::int32_t group = threadIdx.x; group <= problem.groups; group += kThreads) {
    if (group == problem.groups || problem.num_local == 0) view.group_tiles[group] = sum.v[0];
  }
  if (threadIdx.x == 0) {
    view.counters->num_tiles = sum.v[0];
    view.counters->num_rows = sum.v[1];
  }
}

template <int kThreads>
__device__ void lay_out_home(const PlanProblem& problem, const DevicePlanView& view) {
  const std::int32_t num_blocks = num_blocks_of(problem, problem.rank);
  Sums<3> sum{};
#pragma unroll 1
  for (std::int32_t piece = 0; piece < num_blocks; piece += kThreads) {
    const std::int32_t i = piece + static_cast<std::int32_t>(threadIdx.x);
    Sums<3> mine{};
    if (i < num_blocks) {
      const HomeCounts counts = view.home_counts[i];
      mine = {{counts.token_sources, counts.block_sources, counts.tokens_out}};
    }
    Sums<3> total;
    const Sums<3> at = sum + block_exclusive<kThreads>(mine, total);
    if (i < num_blocks) {
      view.home_offsets[i] = {at.v[0], at.v[1], at.v[2]};
      view.block_sources_begin[i] = at.v[1];
    }
    sum = sum + total;
  }
  if (threadIdx.x == 0) {
    view.token_sources_begin[problem.tokens[problem.rank]] = sum.v[0];
    view.block_sources_begin[num_blocks] = sum.v[1];
    view.counters->num_token_sources = sum.v[0];
    view.counters->num_block_sources = sum.v[1];
    view.counters->tokens_out = sum.v[2];
  }
}

}  // namespace comet::cuda
