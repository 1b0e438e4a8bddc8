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

// The pieces of a launch, in the order in which blocks take them.
template <typename V>
class PieceList {
 public:
  __device__ __forceinline__ explicit PieceList(const GroupedGemmParams& params)
      : first_tile_(__ldcg(params.tile_range)),  // perhaps before this kernel's wait
        num_tiles_(__ldcg(params.tile_range + 1) - first_tile_),
        columns_(column_tiles<V>(params)),
        band_tiles_(tiles_of_band(static_cast<std::int32_t>(gridDim.x))),
        pieces_(pieces_of_item<V>(num_tiles_ * columns_.count)) {}

  __device__ __forceinline__ std::int32_t count() const {
    return num_tiles_ * columns_.count * pieces_;
  }
  __device__ __forceinline__ GemmItem item(std::int32_t index) const {
    GemmItem item = gemm_item(index / pieces_, num_tiles_, columns_.wide, band_tiles_);
    item.tile += first_tile_;
    return item;
  }
  __device__ __forceinline__ Piece piece(std::int32_t index) const {
    return {index % pieces_, pieces_};
  }

 private:
  std::int32_t first_tile_;
  std::int32_t num_tiles_;
  ColumnTiles columns_;
  std::int32_t band_tiles_;
  int pieces_;
};

// All roles walk the same pieces: block b takes b, b + gridDim.x, ... The blocks of a pair so have
// neighbours, mostly of one column and expert; where one is left over both compute it. `visit` gets a
// block's own and the other's index, the same if there is no other.
template <typename Visit>
__device__ __forceinline__ void for_each_piece(std::int32_t count, Visit visit) {
  const bool paired = is_paired();
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t rank = paired ? static_cast<std::int32_t>(rank_in_cluster()) : 0;
  const std::int32_t other = paired ? rank ^ 1 : 0;
  for (std::int32_t first = block - rank; first < count; first += static_cast<std::int32_t>(gridDim.x)) {
    visit(min(first + rank, count - 1), min(first + other, count - 1));
  }
}

// One thread loads all of a block's pieces; weights of the first one before the rows are there.
template <typename V>
__device__ __forceinline__ void load_pieces(const GroupedGemmParams& params, Ring<V::kBlockM>& ring) {
  const PieceList<V> pieces(params);
  std::int32_t acquired = -1;
  int ahead = 0;
  if constexpr (V::kLoadsAhead) {
    const auto first = static_cast<std::int32_t>(blockIdx.x);
    if (first < pieces.count()) {
      ahead = load_weights_ahead<V>(params, pieces.item(first), ring, acquired, pieces.piece(first));
    }
    wait_for_kernels_before();
  }
  for_each_piece(pieces.count(), [&](std::int32_t own, std::int32_t other) {
    const GemmItem item = pieces.item(own);
    const bool shares = is_paired() && shares_weights(params, item, pieces.item(other));
    load_item<V>(params, item, ring, acquired, [] {}, pieces.piece(own), shares, ahead);
    ahead = 0;
  });
}

template <typename V>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_kernel(const __grid_constant__ GroupedGemmParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  Ring<V::kBlockM> ring(shared_address(shared), is_paired());
  if (threadIdx.x == 0) {
    ring.init();
    mbarrier_init_fence();
  }
  if constexpr (!V::kLoadsAhead) wait_for_kernels_before();
  sync_pair();
  if (threadIdx.x < 128) {
    give_registers<kLoaderRegisters>();
    if (threadIdx.x == 0) load_pieces<V>(params, ring);
  } else {
    take_registers<kMathRegisters>();
    if constexpr (V::kLoadsAhead) {
      wait_for_kernels_before();
      let_next_kernel_start();
    }
    const PieceList<V> pieces(params);
    const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
    for_each_piece(pieces.count(), [&](std::int32_t own, std::int32_t) {
      compute_item<V>(params, pieces.item(own), ring, warpgroup, pieces.piece(own));
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
  const bool pairs = V::kBlockM == 128 && grid.in_pairs && grid.num_blocks % 2 == 0;
  launch_clusters(pairs ? 2 : 1, grouped_gemm_kernel<V>, static_cast<unsigned>(grid.num_blocks),
                  kThreads, V::kRingBytes, stream, follow, "launching the grouped GEMM", params);
}

template <bool GATED, int BLOCK_M>
void launch_grouped_gemm(const GroupedGemmParams& params, DType dtype, GemmGrid grid,
                         Follow follow, cudaStream_t stream) {
  if (dtype == DType::f16) {
    launch_grouped_gemm_of<Variant<GATED, __half, BLOCK_M>>(params, grid, follow, stream);
  } else {
    launch_grouped_gemm_of<Variant<GATED, __nv_bfloat16, BLOCK_M>>(params, grid, follow, stream);
  }
}

}  // namespace sm90
}  // namespace comet::cuda
