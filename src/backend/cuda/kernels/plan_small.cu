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

// Bytes of what the steps hand on to each other.
constexpr std::size_t handed_bytes(std::int32_t num_local) {
  constexpr std::size_t kBlockBytes = sizeof(CountedBlock) + sizeof(BlockOffsets) +
                                      2 * sizeof(HomeCounts) + 2 * sizeof(std::int32_t);
  constexpr std::size_t kExpertBytes = (2 * kMostSmallBlocks + 2) * sizeof(std::int32_t);
  return sizeof(DevicePlanCounters) + kMostSmallBlocks * kBlockBytes + num_local * kExpertBytes;
}

// The view with that at `words`.
__device__ DevicePlanView hand_on_by(std::int32_t* words, DevicePlanView view,
                                     std::int32_t num_local) {
  const auto take = [&]<typename T>(T*& field, std::int64_t count) {
    static_assert(alignof(T) == alignof(std::int32_t));
    field = reinterpret_cast<T*>(words);
    words += count * static_cast<std::int64_t>(sizeof(T) / sizeof(std::int32_t));
  };
  take(view.counters, 1);
  take(view.counted, kMostSmallBlocks);
  take(view.offsets, kMostSmallBlocks);
  take(view.home_counts, kMostSmallBlocks);
  take(view.home_offsets, kMostSmallBlocks);
  take(view.num_block_tiles, kMostSmallBlocks);
  take(view.num_block_done, kMostSmallBlocks);
  view.block_stride = kMostSmallBlocks;
  take(view.block_rows, num_local * view.block_stride);
  take(view.block_first, num_local * view.block_stride);
  take(view.expert_rows, num_local);
  take(view.segment_tile, num_local);
  return view;
}

// Of what was handed on to `given` what other kernels read. All threads, after a barrier.
__device__ void copy_handed(const DevicePlanView& view, const DevicePlanView& given,
                            std::int32_t num_local) {
  if (threadIdx.x == 0) *given.counters = *view.counters;
#pragma unroll 1
  for (std::int32_t e = static_cast<std::int32_t>(threadIdx.x); e < num_local; e += kSmallThreads) {
    given.expert_rows[e] = view.expert_rows[e];
    given.segment_tile[e] = view.segment_tile[e];
  }
}

// Each step reads what the one before has handed on, in shared memory: from device memory each of
// twenty reads that wait for each other took most of a microsecond. One group.
__global__ void __launch_bounds__(kSmallThreads, 1)
    small_plan_kernel(const PlanProblem given_problem, const DevicePlanView given,
                      std::int32_t home_blocks, const __grid_constant__ OrderProblem wanted) {
  PlanProblem problem = given_problem;
  problem.groups = 1;  // it is: known to the compiler, which leaves divisions out
  extern __shared__ std::int32_t dynamic_shared[];
  wait_for_kernels_before();
  let_next_kernel_start();
  std::int32_t* const steps =
      dynamic_shared + handed_bytes(problem.num_local) / sizeof(std::int32_t);
  const DevicePlanView view = hand_on_by(dynamic_shared, given, problem.num_local);
  const std::int32_t num_blocks = blocks_before_group(problem, 1);
#pragma unroll 1
  for (std::int32_t i = 0; i < problem.world * home_blocks; ++i) {
    count_source_block<kSmallThreads>(problem, view, i / home_blocks, i % home_blocks, steps);
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
  copy_handed(view, given, problem.num_local);
  if (wanted.comes_with_plan()) {
    const auto thread = static_cast<std::int32_t>(threadIdx.x);
    place_tiles_by_index(view, wanted, thread, kSmallThreads);
    clear_counts(view, wanted, thread, kSmallThreads);
    clear_lists<kSmallThreads>(wanted);
    __syncthreads();
  }
#pragma unroll 1
  for (std::int32_t index = 0; index < num_blocks; ++index) {
    place_source_block<kSmallThreads>(problem, view, wanted, index, steps);
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
                       const PlanCapacity& capacity, const OrderProblem& wanted,
                       cudaStream_t stream) {
  constexpr std::size_t kMostBytes = 48 << 10;  // of shared memory, without asking for more
  const std::size_t bytes = handed_bytes(problem.num_local) + place_shared_bytes(problem);
  if (problem.groups != 1 || capacity.blocks > kMostSmallBlocks || bytes > kMostBytes) return false;
  launch_kernel(small_plan_kernel, 1, kSmallThreads, bytes, stream, Follow::closely,
                "launching the plan", problem, view,
                static_cast<std::int32_t>(capacity.home_blocks), wanted);
  return true;
}

}  // namespace comet::cuda
