// SPDX-License-Identifier: Apache-2.0
// What kernels of products alone share: threads and registers of their blocks, and the list of what
// these compute.
#pragma once

#include "backend/cuda/kernels/sm90_gemm_tile.cuh"

namespace comet::cuda {
namespace sm90 {

constexpr int kThreads = 128 + kConsumerWarps * 32;

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

// Of a launch, as it was read once: another call may write the plan meanwhile.
struct TileRange {
  std::int32_t first = 0;
  std::int32_t count = 0;
};

// From L2, since the kernel before may still run, see launch.cuh.
__device__ __forceinline__ TileRange read_tile_range(const GroupedGemmParams& params) {
  const std::int32_t first = __ldcg(params.tile_range);
  return {first, __ldcg(params.tile_range + 1) - first};
}

// The pieces of a product, in the order in which blocks take them.
template <typename V>
class PieceList {
 public:
  __device__ __forceinline__ PieceList(const GroupedGemmParams& params, const TileRange& tiles)
      : tiles_(tiles),
        columns_(column_tiles<V>(params)),
        band_tiles_(tiles_of_band(static_cast<std::int32_t>(gridDim.x))),
        pieces_(pieces_of_item<V>(tiles.count * columns_.count)) {}

  __device__ __forceinline__ std::int32_t count() const { return tiles_.count * per_tile(); }
  __device__ __forceinline__ const TileRange& tiles() const { return tiles_; }
  __device__ __forceinline__ std::int32_t per_tile() const { return columns_.count * pieces_; }
  __device__ __forceinline__ GemmItem item(std::int32_t index) const {
    GemmItem item = gemm_item(index / pieces_, tiles_.count, columns_.wide, band_tiles_);
    item.tile += tiles_.first;
    return item;
  }
  __device__ __forceinline__ Piece piece(std::int32_t index) const {
    return {index % pieces_, pieces_};
  }

 private:
  TileRange tiles_;
  ColumnTiles columns_;
  std::int32_t band_tiles_;
  int pieces_;
};

}  // namespace sm90
}  // namespace comet::cuda
