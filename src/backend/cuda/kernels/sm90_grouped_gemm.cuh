// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM kernel of tiles of 128 rows: persistent, one block per multiprocessor, a loading
// warpgroup and two that multiply.
#pragma once

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/sm90_compute_tile.cuh"
#include "backend/cuda/kernels/sm90_load_tile.cuh"
#include "backend/cuda/kernels/sm90_piece_list.cuh"

namespace comet::cuda {
namespace sm90 {

// Registers of the loading warpgroup and of the multiplying ones: 64,512 in all, what a block of
// kThreads starts with.
constexpr int kLoaderRegisters = 40;
constexpr int kMathRegisters = 232;

// All roles walk the same items: block b takes b, b + gridDim.x, ... The blocks of a pair so have
// neighbours, mostly of one column and expert; where one is left over both compute it. `visit` gets a
// block's own and the other's index, the same if there is no other.
template <typename Visit>
__device__ __forceinline__ void for_each_item(std::int32_t count, Visit visit) {
  const bool paired = is_paired();
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t rank = paired ? static_cast<std::int32_t>(rank_in_cluster()) : 0;
  const std::int32_t other = paired ? rank ^ 1 : 0;
  for (std::int32_t first = block - rank; first < count; first += static_cast<std::int32_t>(gridDim.x)) {
    visit(min(first + rank, count - 1), min(first + other, count - 1));
  }
}

template <typename V>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_kernel(const __grid_constant__ GroupedGemmParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  __shared__ TileRange tiles;
  Ring<V::kBlockM> ring(shared_address(shared), is_paired());
  if (threadIdx.x == 0) {
    ring.init();
    mbarrier_init_fence();
  }
  wait_for_kernels_before();
  if (threadIdx.x == 0) tiles = read_tile_range(params);
  sync_pair();
  const PieceList<V> items(params, tiles);
  if (threadIdx.x < 128) {
    give_registers<kLoaderRegisters>();
    if (threadIdx.x == 0) {
      const CUtensorMap* acquired = nullptr;
      for_each_item(items.count(), [&](std::int32_t own, std::int32_t other) {
        const GemmItem item = items.item(own);
        const bool shares = is_paired() && shares_weights(params, item, items.item(other));
        load_item<V>(params, item, ring, acquired, [] {}, shares);
      });
    }
  } else {
    take_registers<kMathRegisters>();
    const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
    for_each_item(items.count(), [&](std::int32_t own, std::int32_t) {
      compute_item<V>(params, items.item(own), ring, warpgroup);
    });
  }
  if (is_paired()) sync_pair();  // what a block tells the other comes before that ends
}

template <typename V>
void launch_grouped_gemm_of(const GroupedGemmParams& params, GemmGrid grid, Follow follow,
                            cudaStream_t stream) {
  // Set before each launch: it belongs to a device, and costs less than a microsecond.
  check_cuda(cudaFuncSetAttribute(grouped_gemm_kernel<V>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, V::kRingBytes),
             "asking for the grouped GEMM's shared memory");
  const bool pairs = grid.in_pairs && grid.num_blocks % 2 == 0;
  launch_clusters(pairs ? 2 : 1, grouped_gemm_kernel<V>, static_cast<unsigned>(grid.num_blocks),
                  kThreads, V::kRingBytes, stream, follow, "launching the grouped GEMM", params);
}

template <bool GATED>
void launch_grouped_gemm(const GroupedGemmParams& params, DType dtype, GemmGrid grid,
                         Follow follow, cudaStream_t stream) {
  if (dtype == DType::f16) {
    launch_grouped_gemm_of<Variant<GATED, __half, 128>>(params, grid, follow, stream);
  } else {
    launch_grouped_gemm_of<Variant<GATED, __nv_bfloat16, 128>>(params, grid, follow, stream);
  }
}

}  // namespace sm90
}  // namespace comet::cuda
