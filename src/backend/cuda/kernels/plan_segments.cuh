// SPDX-License-Identifier: Apache-2.0
// Second step of a plan: prefix sums over the blocks of each (group, expert).
#pragma once

#include "backend/cuda/kernels/plan_device.cuh"

namespace comet::cuda {

// Where the rows of each of blocks [begin, end), those of the segment's group, begin in segment
// (group, expert), and how many tiles each block touches and completes. By all threads of a thread
// block.
template <int kThreads>
__device__ void sum_segment(const PlanProblem& problem, const DevicePlanView& view,
                            std::int32_t segment, std::int32_t begin, std::int32_t end) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  const std::int32_t expert = segment % problem.num_local;
  const std::int32_t* block_rows = view.block_rows + expert * view.block_stride;
  std::int32_t* block_first = view.block_first + expert * view.block_stride;
  std::int32_t segment_rows = 0;
  std::int32_t last = -1;  // block with rows
#pragma unroll 1
  for (std::int32_t piece = begin; piece < end; piece += kThreads) {
    const std::int32_t i = piece + lane;
    const std::int32_t rows = i < end ? block_rows[i] : 0;
    Sums<1> total;
    const std::int32_t first =
        segment_rows + block_exclusive<kThreads>(Sums<1>{{rows}}, total).v[0];
    if (i < end) block_first[i] = first;
    if (rows > 0) {
      const std::int32_t first_tile = first / problem.block_m;
      const std::int32_t done = (first + rows) / problem.block_m - first_tile;
      atomicAdd(view.num_block_tiles + i, (first + rows - 1) / problem.block_m - first_tile + 1);
      if (done > 0) atomicAdd(view.num_block_done + i, done);
      last = i;
    }
    segment_rows += total.v[0];
  }
  last = block_max(last);
  if (lane != 0) return;
  view.expert_rows[segment] = segment_rows;
  if (segment_rows % problem.block_m != 0) atomicAdd(view.num_block_done + last, 1);
}

}  // namespace comet::cuda
