// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/plan_place.cuh"

namespace comet::cuda {
namespace {

// Source blocks in transfer order, then the own rank's home side; and what an order that comes with
// the plan has beside the tokens, by all thread blocks.
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    place_kernel(const PlanProblem problem, const DevicePlanView view, std::int32_t home_blocks,
                 const __grid_constant__ OrderProblem wanted) {
  extern __shared__ std::int32_t dynamic_shared[];
  wait_for_kernels_before();
  let_next_kernel_start();
  const auto index = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t source_blocks = problem.world * home_blocks;
  if (index < source_blocks) {
    place_source_block<kBlockThreads>(problem, view, wanted, index, dynamic_shared);
  } else {
    place_home_block<kBlockThreads>(problem, view, index - source_blocks);
  }
  if (wanted.comes_with_plan()) {
    const auto thread = static_cast<std::int32_t>(blockIdx.x * kBlockThreads + threadIdx.x);
    const auto num_threads = static_cast<std::int32_t>(gridDim.x * kBlockThreads);
    place_tiles_by_index(view, wanted, thread, num_threads);
    clear_counts(view, wanted, thread, num_threads);
  }
}

}  // namespace

void launch_plan_place(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, const OrderProblem& wanted,
                       cudaStream_t stream) {
  const auto least = wanted.comes_with_plan() ? 1U : 0U;  // which has counts without tokens, too
  const auto grid = std::max(static_cast<unsigned>(capacity.blocks + capacity.home_blocks), least);
  if (grid == 0) return;
  launch_kernel(place_kernel, grid, kBlockThreads, place_shared_bytes(problem), stream,
                Follow::closely, "launching the plan's places", problem, view,
                static_cast<std::int32_t>(capacity.home_blocks), wanted);
}

}  // namespace comet::cuda
