// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/plan_segments.cuh"

namespace comet::cuda {
namespace {

constexpr int kSegmentThreads = 256;  // for one (group, expert)

__global__ void __launch_bounds__(kSegmentThreads)
    segment_kernel(const PlanProblem problem, const DevicePlanView view) {
  wait_for_kernels_before();
  let_next_kernel_start();
  const auto segment = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t group = segment / problem.num_local;
  sum_segment<kSegmentThreads>(problem, view, segment, blocks_before_group(problem, group),
                               blocks_before_group(problem, group + 1));
}

}  // namespace

void launch_plan_segments(const PlanProblem& problem, const DevicePlanView& view,
                          const PlanCapacity& capacity, cudaStream_t stream) {
  if (capacity.segments == 0) return;
  launch_kernel(segment_kernel, static_cast<unsigned>(capacity.segments), kSegmentThreads, 0,
                stream, Follow::closely, "launching the plan's segments", problem, view);
}

}  // namespace comet::cuda
