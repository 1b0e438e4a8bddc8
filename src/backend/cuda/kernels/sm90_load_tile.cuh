// SPDX-License-Identifier: Apache-2.0
// What one thread of a block loads of a grouped GEMM's tile, see sm90_gemm_tile.cuh.
#pragma once

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/kernels/sm90_gemm_tile.cuh"

namespace comet::cuda {
namespace sm90 {

// One step of a piece of a weight tile. A gated one holds rows of gate and of up, so that what a
// warpgroup multiplies is one operand to wgmma: gate's, then up's, half as many for each if they are
// two.
template <typename V>
__device__ __forceinline__ void load_weights(std::uint32_t to, std::uint32_t barrier,
                                             const CUtensorMap* maps, int k, int column,
                                             const Piece& piece) {
  const int boxes = V::kBoxes / piece.count;
#pragma unroll
  for (int i = 0; i < V::kBoxes; ++i) {
    if (i >= boxes) break;
    const std::uint32_t box = to + i * V::kBoxStride;
    const int row = column + (piece.index * boxes + i) * V::kBoxRows;
    tma_load_2d(box, maps, k, row, barrier);
    if (V::kGated) tma_load_2d(box + V::kBytesOfBox, maps + 1, k, row, barrier);
  }
}

// load_weights where both blocks of a pair multiply by the same weights: each loads half of them, into
// both.
template <typename V>
__device__ __forceinline__ void load_shared_weights(const Ring<V::kBlockM>& ring, const CUtensorMap* maps, int k,
                                                    int column) {
  static_assert(V::kBlockM == 128 && V::kBytesOfBox * 2 == kBytesB);
  const auto rank = static_cast<int>(rank_in_cluster());
  tma_load_2d_multicast(ring.b() + rank * V::kBytesOfBox, V::kGated ? maps + rank : maps, k,
                        V::kGated ? column : column + rank * V::kBoxRows, ring.full_barrier(), 3);
}

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
  // `expert` and `rows` are of the item's tile. `acquired`: the expert whose tensor maps the thread
  // acquired last.
  __device__ __forceinline__ PieceLoad(const GroupedGemmParams& params, const GemmItem& item,
                                       std::int32_t expert, std::int32_t rows,
                                       std::int32_t& acquired, const Piece& piece = {})
      : rows_(params, rows),
        maps_(params.weight_maps + expert * (V::kGated ? 2 : 1)),
        row_(item.tile * V::kBlockM),
        column_(item.column * V::kColumnsOut),
        steps_((params.k + kBlockK - 1) / kBlockK),
        piece_(piece) {
    if (expert == acquired) return;
    tensor_map_acquire(maps_);
    if (V::kGated) tensor_map_acquire(maps_ + 1);
    acquired = expert;
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
            load_shared_weights<V>(ring, maps_, step * kBlockK, column_);
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
                    min(STEPS, steps_ - step) * (rows_.bytes + kBytesB / piece_.count));
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
      load_weights<V>(to + i * kBytesOfQuarter, ring.full_barrier(), maps_,
                      (step + i) * kBlockK, column_, piece_);
    }
  }

  RowBoxes<V> rows_;
  const CUtensorMap* maps_;
  int row_;
  int column_;
  int steps_;
  Piece piece_;
  int ahead_ = 0;  // steps whose weights are on their way
};

// Loads an item that is not cut.
template <typename V, typename OnStage>
__device__ __forceinline__ void load_item(const GroupedGemmParams& params, const GemmItem& item,
                                          Ring<V::kBlockM>& ring, std::int32_t& acquired,
                                          OnStage on_stage, bool shares) {
  const Tile& tile = params.tiles[item.tile];
  PieceLoad<V>(params, item, tile.expert, tile.rows, acquired).load(ring, on_stage, shares);
}

}  // namespace sm90
}  // namespace comet::cuda
