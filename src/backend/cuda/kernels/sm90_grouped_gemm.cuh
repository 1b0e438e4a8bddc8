// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM kernel: persistent, one block per multiprocessor, a loading warpgroup and two that
// multiply.
#pragma once

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/sm90_gemm_tile.cuh"

namespace comet::cuda {
namespace sm90 {

constexpr int kThreads = 128 + kConsumerWarps * 32;

// Registers of the loading warpgroup and of the multiplying ones: 65,536 in all.
constexpr int kLoaderRegisters = 40;
constexpr int kMathRegisters = 232;

// Into how many pieces each item is cut: as many as there are multiprocessors for. The products of a
// few tokens do little but read weights, and one multiprocessor reads a small part of what memory
// gives.
template <typename V>
__device__ __forceinline__ int pieces_of_item(std::int32_t num_items) {
  if constexpr (V::kSplitColumns) {
    int pieces = V::kBoxes;
    while (pieces > 1 && num_items * pieces > static_cast<std::int32_t>(gridDim.x)) pieces /= 2;
    return pieces;
  } else {
    return 1;
  }
}

// All roles walk the same pieces: block b takes b, b + gridDim.x, ...
template <typename V, typename Visit>
__device__ __forceinline__ void for_each_item(const GroupedGemmParams& params, Visit visit) {
  const std::int32_t first_tile = params.tile_range[0];
  const std::int32_t num_tiles = params.tile_range[1] - first_tile;
  const ColumnTiles columns = column_tiles<V>(params);
  const std::int32_t band_tiles = tiles_of_band(static_cast<std::int32_t>(gridDim.x));
  const std::int32_t num_items = num_tiles * columns.count;
  const int pieces = pieces_of_item<V>(num_items);
  for (std::int32_t i = blockIdx.x; i < num_items * pieces; i += gridDim.x) {
    GemmItem item = gemm_item(i / pieces, num_tiles, columns.wide, band_tiles);
    item.tile += first_tile;
    visit(item, Piece{i % pieces, pieces});
  }
}

template <typename V>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_kernel(const __grid_constant__ GroupedGemmParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  Ring<V::kBlockM> ring(shared_address(shared));
  if (threadIdx.x == 0) {
    ring.init();
    mbarrier_init_fence();
  }
  wait_for_kernels_before();
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<kLoaderRegisters>();
    if (threadIdx.x == 0) {
      std::int32_t acquired = -1;
      for_each_item<V>(params, [&](const GemmItem& item, const Piece& piece) {
        load_item<V>(params, item, ring, acquired, [] {}, piece);
      });
    }
  } else {
    take_registers<kMathRegisters>();
    const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
    for_each_item<V>(params, [&](const GemmItem& item, const Piece& piece) {
      compute_item<V>(params, item, ring, warpgroup, piece);
    });
  }
}

template <typename V>
void launch_grouped_gemm_of(const GroupedGemmParams& params, int num_blocks, Follow follow,
                            cudaStream_t stream) {
  // Set before each launch: it belongs to a device, and costs less than a microsecond.
  check_cuda(cudaFuncSetAttribute(grouped_gemm_kernel<V>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, V::kRingBytes),
             "asking for the grouped GEMM's shared memory");
  launch_kernel(grouped_gemm_kernel<V>, static_cast<unsigned>(num_blocks), kThreads, V::kRingBytes,
                stream, follow, "launching the grouped GEMM", params);
}

template <bool GATED, int BLOCK_M>
void launch_grouped_gemm(const GroupedGemmParams& params, DType dtype, int num_blocks,
                         Follow follow, cudaStream_t stream) {
  if (dtype == DType::f16) {
    launch_grouped_gemm_of<Variant<GATED, __half, BLOCK_M>>(params, num_blocks, follow, stream);
  } else {
    launch_grouped_gemm_of<Variant<GATED, __nv_bfloat16, BLOCK_M>>(params, num_blocks, follow,
                                                                   stream);
  }
}

}  // namespace sm90
}  // namespace comet::cuda
