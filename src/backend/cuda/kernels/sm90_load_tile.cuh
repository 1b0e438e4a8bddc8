// SPDX-License-Identifier: Apache-2.0
// What one thread of a block loads of a grouped GEMM's tile, see sm90_gemm_tile.cuh.
#pragma once

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/kernels/sm90_gemm_tile.cuh"

namespace comet::cuda {
namespace sm90 {

// Where an item's weights are, and how they are loaded.
template <typename V>
struct WeightBoxes {
  const CUtensorMap* maps;  // of the expert
  int row;                  // the matrix's first row in the item
  int bytes_of_box;         // of one matrix, of a step

  __device__ __forceinline__ WeightBoxes(const GroupedGemmParams& params, const GemmItem& item, std::int32_t expert)
      : maps(params.weight_maps + expert * (V::kGated ? 2 : 1)),
        row(item.column * V::kColumnsOut),
        bytes_of_box(V::kBytesOfBox) {
    if (!V::kGated || V::kBlockM != 128 || params.narrow_rows == 0 || params.n - row >= V::kColumnsOut) return;
    maps = params.narrow_maps + expert * 2;
    bytes_of_box = params.narrow_rows * kBlockK * 2;
  }

  // What a step of a piece loads.
  __device__ __forceinline__ int bytes_of(const Piece& piece) const {
    return V::kBlockM == 128 ? 2 * bytes_of_box : kBytesB / piece.count;
  }

  // One step of a piece. A gated tile holds rows of gate and of up, so that what a warpgroup multiplies is
  // one operand to wgmma: gate's, then up's, half as many for each if they are two.
  __device__ __forceinline__ void load(std::uint32_t to, std::uint32_t barrier, int k,
                                       const Piece& piece) const {
    const int boxes = V::kBoxes / piece.count;
#pragma unroll
    for (int i = 0; i < V::kBoxes; ++i) {
      if (i >= boxes) break;
      const std::uint32_t box = to + i * V::kBoxStride;
      const int box_row = row + (piece.index * boxes + i) * V::kBoxRows;
      tma_load_2d(box, maps, k, box_row, barrier);
      if (V::kGated) tma_load_2d(box + bytes_of_box, maps + 1, k, box_row, barrier);
    }
  }

  // The same where both blocks of a pair multiply by the same weights: each loads half of them, into both.
  __device__ __forceinline__ void load_half(const Ring<V::kBlockM>& ring, int k) const {
    static_assert(V::kBlockM == 128 && V::kBytesOfBox * 2 == kBytesB);
    const auto rank = static_cast<int>(rank_in_cluster());
    tma_load_2d_multicast(ring.b() + rank * bytes_of_box, V::kGated ? maps + rank : maps, k,
                          V::kGated ? row : row + rank * V::kBoxRows, ring.full_barrier(), 3);
  }
};

// Whether two items multiply by the same weights.
__device__ __forceinline__ bool shares_weights(const GroupedGemmParams& params, const GemmItem& a,
                                               const GemmItem& b) {
  return a.column == b.column && params.tiles[a.tile].expert == params.tiles[b.tile].expert;
}

// How a tile's rows are loaded. Of those that are not, shared memory has what was there before: nobody
// stores what comes of it.
template <typename V>
struct RowBoxes {
  const CUtensorMap* map;
  int bytes;  // of a step

  __device__ __forceinline__ RowBoxes(const GroupedGemmParams& params, std::int32_t rows) {
    const bool are_few = V::kBlockM == 64 && rows <= kFewTileRows;
    map = are_few ? &params.few_rows_map : &params.a_map;
    bytes = are_few ? kFewTileRows * kBlockK * 2 : V::kBytesA;
  }
};

// What one thread loads: a piece of an item, step after step.
template <typename V>
class PieceLoad {
 public:
  // `expert` and `rows` are of the item's tile. `acquired`: the tensor maps that the thread acquired last, or
  // null.
  __device__ __forceinline__ PieceLoad(const GroupedGemmParams& params, const GemmItem& item,
                                       std::int32_t expert, std::int32_t rows,
                                       const CUtensorMap*& acquired, const Piece& piece = {})
      : rows_(params, rows),
        weights_(params, item, expert),
        row_(item.tile * V::kBlockM),
        steps_((params.k + kBlockK - 1) / kBlockK),
        piece_(piece) {
    if (weights_.maps == acquired) return;
    tensor_map_acquire(weights_.maps);
    if (V::kGated) tensor_map_acquire(weights_.maps + 1);
    acquired = weights_.maps;
  }

  // Has the next stages, as they become free, expect the first steps, and loads their weights: all
  // stages at most. load() is to follow with the ring as it is.
  __device__ __forceinline__ void load_weights_ahead(Ring<V::kBlockM> ring) {
    with_steps_of_stage<V>(piece_, [&](auto steps) {
      constexpr int kSteps = decltype(steps)::value;
      ahead_ = min(steps_, V::kStages * kSteps);
#pragma unroll 1
      for (int step = 0; step < ahead_; step += kSteps) {
        open_stage<kSteps>(ring, step);
        load_weights_of<kSteps>(ring, step);
        ring.advance();
      }
    });
  }

  // Loads all steps, and calls `on_stage` after each stage. `shares`: the other block of the pair loads
  // an item of the same column and expert now.
  template <typename OnStage>
  __device__ __forceinline__ void load(Ring<V::kBlockM>& ring, OnStage on_stage,
                                       bool shares = false) {
    with_steps_of_stage<V>(piece_, [&](auto steps) {
      constexpr int kSteps = decltype(steps)::value;
#pragma unroll 1
      for (int step = 0; step < ahead_; step += kSteps) {
        load_rows_of<kSteps>(ring, step);
        ring.advance();
        on_stage();
      }
#pragma unroll 1
      for (int step = ahead_; step < steps_; step += kSteps) {
        open_stage<kSteps>(ring, step);
        load_rows_of<kSteps>(ring, step);
        if constexpr (V::kBlockM == 128) {
          if (shares) {
            weights_.load_half(ring, step * kBlockK);
          } else {
            load_weights_of<kSteps>(ring, step);
          }
        } else {
          load_weights_of<kSteps>(ring, step);
        }
        ring.advance();
        on_stage();
      }
    });
  }

 private:
  // Waits until the stage is free, and has it expect its steps, of which `step` is the first.
  template <int STEPS>
  __device__ __forceinline__ void open_stage(const Ring<V::kBlockM>& ring, int step) const {
    mbarrier_wait(ring.empty_barrier(), ring.phase ^ 1);
    mbarrier_expect(ring.full_barrier(),
                    min(STEPS, steps_ - step) * (rows_.bytes + weights_.bytes_of(piece_)));
  }
  template <int STEPS>
  __device__ __forceinline__ void load_rows_of(const Ring<V::kBlockM>& ring, int step) const {
#pragma unroll
    for (int i = 0; i < STEPS && (i == 0 || step + i < steps_); ++i) {
      tma_load_2d(ring.a() + i * V::kBytesA, rows_.map, (step + i) * kBlockK, row_,
                  ring.full_barrier());
    }
  }
  template <int STEPS>
  __device__ __forceinline__ void load_weights_of(const Ring<V::kBlockM>& ring, int step) const {
    const std::uint32_t to = weights_of_stage<V, STEPS>(ring);
#pragma unroll
    for (int i = 0; i < STEPS && (i == 0 || step + i < steps_); ++i) {
      weights_.load(to + i * kBytesOfQuarter, ring.full_barrier(), (step + i) * kBlockK, piece_);
    }
  }

  RowBoxes<V> rows_;
  WeightBoxes<V> weights_;
  int row_;
  int steps_;
  Piece piece_;
  int ahead_ = 0;  // steps whose weights are on their way
};

// Loads an item that is not cut.
template <typename V, typename OnStage>
__device__ __forceinline__ void load_item(const GroupedGemmParams& params, const GemmItem& item,
                                          Ring<V::kBlockM>& ring, const CUtensorMap*& acquired,
                                          OnStage on_stage, bool shares) {
  const Tile& tile = params.tiles[item.tile];
  PieceLoad<V>(params, item, tile.expert, tile.rows, acquired).load(ring, on_stage, shares);
}

}  // namespace sm90
}  // namespace comet::cuda
