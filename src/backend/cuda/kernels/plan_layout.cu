// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/overlap_order.cuh"
#include "backend/cuda/kernels/plan_layout.cuh"

namespace comet::cuda {
namespace {

constexpr int kLayoutThreads = 512;

__global__ void __launch_bounds__(kLayoutThreads)
    layout_kernel(const PlanProblem problem, const DevicePlanView view,
                  const __grid_constant__ OrderProblem wanted) {
  wait_for_kernels_before();
  let_next_kernel_start();
  if (blockIdx.x == 0) {
    lay_out_blocks<kLayoutThreads>(problem, view);
  } else if (blockIdx.x == 1) {
    lay_out_segments<kLayoutThreads>(problem, view);
  } else {
    if (wanted.comes_with_plan()) clear_lists<kLayoutThreads>(wanted);
    lay_out_home<kLayoutThreads>(problem, view);
  }
}

}  // namespace

void launch_plan_layout(const PlanProblem& problem, const DevicePlanView& view,
                        const OrderProblem& wanted, cudaStream_t stream) {
  launch_kernel(layout_kernel, 3, kLayoutThreads, 0, stream, Follow::closely,
                "launching the plan's layout", problem, view, wanted);
}

}  // namespace comet::cuda
