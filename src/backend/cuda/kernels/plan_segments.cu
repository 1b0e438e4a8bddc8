// SPDX-License-Identifier: Apache-2.0
// Second kernel of a plan: prefix sums over the blocks of each (group, expert).
#include "backend/cuda/kernels/plan_device.cuh"

namespace comet::cuda {
namespace {

constexpr int kSegmentThreads = 256;  // for one (group, expert)

// Block x is segment (group, expert): where each block's rows begin in it, and how many tiles each
// block touches and completes.
__global__ void __launch_bounds__(kSegmentThreads)
    segment_kernel(const PlanProblem problem, const DevicePlanView view) {
  __shared__ std::int32_t last_block;  // with rows in this segment
  const std::int32_t group = static_cast<std::int32_t>(blockIdx.x) / problem.num_local;
  const std::int32_t expert = static_cast<std::int32_t>(blockIdx.x) % problem.num_local;
  const std::int32_t begin = blocks_before_group(problem, group);
  const std::int32_t end = blocks_before_group(problem, group + 1);
  const std::int32_t* block_rows = view.block_rows + expert * view.block_stride;
  std::int32_t* block_first = view.block_first + expert * view.block_stride;
  if (threadIdx.x == 0) last_block = -1;  // block_exclusive syncs before the first use
  std::int32_t segment_rows = 0;
  std::int32_t last_of_thread = -1;
  for (std::int32_t piece = begin; piece < end; piece += kSegmentThreads) {
    const std::int32_t i = piece + static_cast<std::int32_t>(threadIdx.x);
    const std::int32_t rows = i < end ? block_rows[i] : 0;
    Sums<1> total;
    const std::int32_t first =
        segment_rows + block_exclusive<kSegmentThreads>(Sums<1>{{rows}}, total).v[0];
    if (i < end) block_first[i] = first;
    if (rows > 0) {
      const std::int32_t first_tile = first / problem.block_m;
      const std::int32_t done = (first + rows) / problem.block_m - first_tile;
      atomicAdd(view.num_block_tiles + i, (first + rows - 1) / problem.block_m - first_tile + 1);
      if (done > 0) atomicAdd(view.num_block_done + i, done);
      last_of_thread = i;
    }
    segment_rows += total.v[0];
  }
  if (last_of_thread >= 0) atomicMax(&last_block, last_of_thread);
  __syncthreads();
  if (threadIdx.x == 0) {
    view.expert_rows[blockIdx.x] = segment_rows;
    if (segment_rows % problem.block_m != 0) atomicAdd(view.num_block_done + last_block, 1);
  }
}

}  // namespace

void launch_plan_segments(const PlanProblem& problem, const DevicePlanView& view,
                          const PlanCapacity& capacity, cudaStream_t stream) {
  if (capacity.segments == 0) return;
  segment_kernel<<<static_cast<unsigned>(capacity.segments), kSegmentThreads, 0, stream>>>(problem,
                                                                                           view);
}

}  // namespace comet::cuda
