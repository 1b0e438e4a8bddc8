// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/plan_count.cuh"

namespace comet::cuda {
namespace {

// Blocks of world * home_blocks sources by (step, block), then the own rank's home side.
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    count_kernel(const PlanProblem problem, const DevicePlanView view, std::int32_t home_blocks) {
  extern __shared__ std::int32_t dynamic_shared[];
  wait_for_kernels_before();
  let_next_kernel_start();
  const std::int32_t step = static_cast<std::int32_t>(blockIdx.x) / home_blocks;
  const std::int32_t block = static_cast<std::int32_t>(blockIdx.x) % home_blocks;
  if (step < problem.world) {
    count_source_block<kBlockThreads>(problem, view, step, block, dynamic_shared);
  } else {
    count_home_block<kBlockThreads>(problem, view, block);
  }
}

}  // namespace

void launch_plan_count(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(capacity.blocks + capacity.home_blocks);
  if (grid == 0) return;
  launch_kernel(count_kernel, grid, kBlockThreads, count_shared_bytes(problem), stream,
                Follow::closely, "launching the plan's count", problem, view,
                static_cast<std::int32_t>(capacity.home_blocks));
}

}  // namespace comet::cuda
