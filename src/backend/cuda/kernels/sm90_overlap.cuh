// SPDX-License-Identifier: Apache-2.0
// The fused kernel: persistent, one block per multiprocessor. A warp that loads and marks, three
// that gather, pull, push and sum, and two warpgroups that multiply, see docs/design.md. A role is a
// branch of one if/else, and whoever runs out of its work takes pushes and sums after it.
#pragma once

#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/overlap_loader.cuh"
#include "backend/cuda/kernels/sm90_compute_tile.cuh"

namespace comet::cuda::overlap {

template <typename T, int BLOCK_M>
__device__ __forceinline__ void multiply_all(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  using Of = Types<T, BLOCK_M>;
  typename Of::Ring ring(shared_address(shared.ring), sm90::is_paired());
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % kWorkSlots;
    mbarrier_wait(shared_address(shared.work_full + slot), count / kWorkSlots & 1U);
    const Work work = shared.work[slot];
    if (work.kind == Work::Kind::finish) return;
    const GemmItem item{work.tile, work.column};
    if (work.kind == Work::Kind::first && p.is_gated) {
      sm90::compute_item<typename Of::Gated>(p.first, item, ring, warpgroup);
    } else {
      const GroupedGemmParams& product = work.kind == Work::Kind::first ? p.first : p.second;
      sm90::compute_item<typename Of::Plain>(product, item, ring, warpgroup);
    }
    __syncwarp();
    if (lane_id() == 0) {
      mbarrier_arrive(shared_address(shared.work_stored + count % kWorkSlots));
    }
  }
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ void combine_all(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const std::uint8_t* bytes = warp == kPullerWarp ? shared.pulls
                              : warp < kFirstMathWarp
                                  ? shared.sums[warp - kPullerWarp - 1]
                                  : shared.ring + (warp - kFirstMathWarp) * SumBuffers::kBytes;
  const SumBuffers buffers{shared_address(bytes)};
  if (!Combiner<T, combiner_state<BLOCK_M>>(p, buffers).run()) p.call.state->abandoned = 1;
}

template <int BLOCK_M>
__device__ __forceinline__ void init_shared(Shared<BLOCK_M>& shared) {
  sm90::Ring<BLOCK_M>(shared_address(shared.ring), sm90::is_paired()).init();
  for (auto& barriers : shared.pull_barriers) {
    for (std::uint64_t& barrier : barriers) mbarrier_init(shared_address(&barrier), 1);
  }
  for (std::uint64_t& barrier : shared.order_full) mbarrier_init(shared_address(&barrier), 1);
  for (int i = 0; i < kWorkSlots; ++i) {
    mbarrier_init(shared_address(shared.work_full + i), 1);
    mbarrier_init(shared_address(shared.work_stored + i), sm90::kConsumerWarps);
  }
  mbarrier_init_fence();
}

// Whether the block has work, once its shared memory, and that of the other block of its pair, is ready: whether
// the call was not abandoned before. A pair's blocks say alike, though a block may abandon the call meanwhile.
template <int BLOCK_M>
__device__ __forceinline__ bool begin_together(const Shared<BLOCK_M>& shared) {
  sm90::sync_pair();
  if (!sm90::is_paired()) return !shared.is_abandoned;
  return load_byte_in_cluster(address_in_cluster(shared_address(&shared.is_abandoned), 0)) == 0;
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ void work_in_roles(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  if (warp < kFirstMathWarp) {
    give_registers<kServiceRegisters>();
    if (warp == kLoaderWarp) {
      if (lane_id() == 0) {
        if (sm90::is_paired() && rank_in_cluster() == 1) {
          load_ordered<T, BLOCK_M>(p, shared);
        } else {
          load_all<T, BLOCK_M>(p, shared);
        }
      }
      return;
    }
    const int copy_warp = warp - kPullerWarp;
    const std::uint8_t* buffers = copy_warp == 0 ? shared.pulls : shared.sums[copy_warp - 1];
    bring_beside_products<BLOCK_M>(p, copy_warp, shared_address(buffers),
                                   copy_warp == 0 ? Shared<BLOCK_M>::kPullBytes : SumBuffers::kBytes,
                                   shared_address(shared.pull_barriers[copy_warp]));
    if (block >= p.order.roles->pushers) return;
  } else {
    take_registers<kMathRegisters>();
    bring_before_products<BLOCK_M>(p);
    multiply_all<T, BLOCK_M>(p, shared);
    barrier_sync(kMathBarrier, kThreads - kWarpgroup);  // the ring is free
  }
  combine_all<T, BLOCK_M>(p, shared);
}

template <typename T, int BLOCK_M>
__global__ void __launch_bounds__(kThreads, 1)
    overlap_kernel(const __grid_constant__ OverlapParams p) {
  Shared<BLOCK_M>& shared = shared_of_block<BLOCK_M>();
  const CallParams& call = p.call;
  wait_for_kernels_before();
  if (threadIdx.x == 0) {
    init_shared(shared);
    shared.is_abandoned = call.state->abandoned != 0;
    if (blockIdx.x == 0 && !shared.is_abandoned) {
      call.state->times.planned_ns = global_timer();
      tell_progress(call.world, call.state->epoch, Stage::dispatch_gemm, -1);
    }
  }
  if (begin_together(shared)) {
    work_in_roles<T, BLOCK_M>(p, shared);
  }
  // Neither block of a pair ends before the other has read and told it the last time.
  if (sm90::is_paired()) sm90::sync_pair();
}

template <typename T, int BLOCK_M>
void launch_overlap(const OverlapParams& params, int num_blocks, Follow follow,
                    cudaStream_t stream) {
  constexpr int kBytes = sizeof(Shared<BLOCK_M>);
  static_assert(kBytes <= 232448, "what a block of Hopper may have");
  // Set before each launch: it belongs to a device, and costs less than a microsecond.
  check_cuda(cudaFuncSetAttribute(overlap_kernel<T, BLOCK_M>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
             "asking for the fused kernel's shared memory");
  const bool pairs = BLOCK_M == 128 && params.choice.in_pairs;
  launch_clusters(pairs ? 2 : 1, overlap_kernel<T, BLOCK_M>, static_cast<unsigned>(num_blocks),
                  kThreads, kBytes, stream, follow, "launching the fused kernel", params);
}

}  // namespace comet::cuda::overlap
