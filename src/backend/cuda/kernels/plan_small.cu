// SPDX-License-Identifier: Apache-2.0
// All four steps of a small plan in one thread block, since a kernel of its own for each takes
// longer to start than to run.
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/plan_count.cuh"
#include "backend/cuda/kernels/plan_layout.cuh"
#include "backend/cuda/kernels/plan_place.cuh"
#include "backend/cuda/kernels/plan_segments.cuh"

namespace comet::cuda {
namespace {

constexpr int kSmallThreads = 256;

// Blocks of 64 tokens of all sources that one thread block takes less time for, one after the
// other, than four kernels do for all at once.
constexpr std::int64_t kMostSmallBlocks = 2;

// Each step reads what the one before has written to the plan's memory. One group.
__global__ void __launch_bounds__(kSmallThreads, 1)
    small_plan_kernel(const PlanProblem given, const DevicePlanView view,
                      std::int32_t home_blocks) {
  PlanProblem problem = given;
  problem.groups = 1;  // it is: known to the compiler, which leaves divisions out
  extern __shared__ std::int32_t dynamic_shared[];
  wait_for_kernels_before();
  let_next_kernel_start();
  const std::int32_t num_blocks = blocks_before_group(problem, 1);
#pragma unroll 1
  for (std::int32_t i = 0; i < problem.world * home_blocks; ++i) {
    count_source_block<kSmallThreads>(problem, view, i / home_blocks, i % home_blocks,
                                      dynamic_shared);
    __syncthreads();  // the next block writes the shared memory
  }
#pragma unroll 1
  for (std::int32_t block = 0; block < home_blocks; ++block) {
    count_home_block<kSmallThreads>(problem, view, block);
    __syncthreads();
  }
#pragma unroll 1
  for (std::int32_t e = static_cast<std::int32_t>(threadIdx.x); e < problem.num_local;
       e += kSmallThreads) {
    sum_segment<1>(problem, view, e, 0, num_blocks);
  }
  __syncthreads();
  lay_out_blocks<kSmallThreads>(problem, view);
  lay_out_segments<kSmallThreads>(problem, view);
  lay_out_home<kSmallThreads>(problem, view);
  __syncthreads();
#pragma unroll 1
  for (std::int32_t index = 0; index < num_blocks; ++index) {
    place_source_block<kSmallThreads>(problem, view, index, dynamic_shared);
    __syncthreads();
  }
#pragma unroll 1
  for (std::int32_t block = 0; block < home_blocks; ++block) {
    place_home_block<kSmallThreads>(problem, view, block);
    __syncthreads();
  }
}

}  // namespace

bool launch_small_plan(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, cudaStream_t stream) {
  if (problem.groups != 1 || capacity.blocks > kMostSmallBlocks) return false;
  launch_kernel(small_plan_kernel, 1, kSmallThreads, place_shared_bytes(problem), stream,
                Follow::closely, "launching the plan", problem, view,
                static_cast<std::int32_t>(capacity.home_blocks));
  return true;
}

}  // namespace comet::cuda
