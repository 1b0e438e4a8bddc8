// SPDX-License-Identifier: Apache-2.0
// One tile of a grouped GEMM, by the warps of a block: one thread loads it by TMA into a ring of
// stages (sm90_load_tile.cuh), two warpgroups multiply 64 rows each, or half of the columns each where
// a tile has only 64 rows, and write them from registers (sm90_compute_tile.cuh). Which tile comes
// when is the kernels' business. Here is what both sides share.
#pragma once

#include <type_traits>

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/kernels/grouped_gemm.hpp"

namespace comet::cuda {
namespace sm90 {

constexpr int kBlockN = kGemmBlockN;
constexpr int kBlockK = 64;  // 128 bytes, one swizzle row
constexpr int kBytesB = kBlockN * kBlockK * 2;
constexpr int kBytesOfQuarter = kBytesB / 4;  // a step of a quarter of the columns
constexpr int kConsumerWarps = 8;

// What a block's shared memory holds of tiles of that height.
template <int BLOCK_M>
struct Shape {
  static_assert(BLOCK_M == 64 || BLOCK_M == 128);
  static constexpr int kBlockM = BLOCK_M;
  static constexpr int kStages = BLOCK_M == 64 ? 5 : 4;  // 200 and 192 KB: what fits
  static constexpr int kBytesA = BLOCK_M * kBlockK * 2;
  static constexpr int kBytesOfStage = kBytesA + kBytesB;
  static constexpr int kStageBytes = kStages * kBytesOfStage;
  static constexpr int kRingBytes = kStageBytes + 2 * kStages * 8;
};

// What a product is made for.
template <bool GATED, typename ELEMENT, int BLOCK_M>
struct Variant : Shape<BLOCK_M> {
  using Element = ELEMENT;
  static constexpr bool kGated = GATED;
  // Whether the math warpgroups share the rows and split the columns.
  static constexpr bool kSplitColumns = BLOCK_M == 64;
  // Rows of the weight tile that one of them multiplies, and the columns of c that come of them.
  static constexpr int kWidth = kSplitColumns ? kBlockN / 2 : kBlockN;
  static constexpr int kColumnsOfWarpgroup = GATED ? kWidth / 2 : kWidth;
  static constexpr int kColumnsOut = GATED ? kBlockN / 2 : kBlockN;
  // What one TMA box of a weight matrix holds, and how many of each matrix a tile has.
  static constexpr int kBoxRows = weight_box_rows(BLOCK_M);
  static constexpr int kBoxes = kColumnsOut / kBoxRows;
  static constexpr int kBytesOfBox = kBoxRows * kBlockK * 2;
  // Bytes of the weight tile from one box's columns to the next one's.
  static constexpr int kBoxStride = GATED ? 2 * kBytesOfBox : kBytesOfBox;
};

// The columns that are computed of a tile: all, or 1 of `count` equal parts, a box or more.
struct Piece {
  int index = 0;
  int count = 1;
};

// The blocks of a cluster: one, or a pair, which loads weight tiles together.
__device__ __forceinline__ bool is_paired() { return blocks_of_cluster() == 2; }

// Waits for all threads of the block, or of both of a pair.
__device__ __forceinline__ void sync_pair() {
  if (!is_paired()) {
    __syncthreads();
    return;
  }
  __syncwarp();
  cluster_sync();
}

// The stages between loader and math warps. Each role has its own and walks the same steps.
template <int BLOCK_M>
struct Ring {
  using S = Shape<BLOCK_M>;
  std::uint32_t stages;  // shared address of stage 0: a, then b
  std::uint32_t full;    // [kStages] barriers: the bytes of a stage are there
  std::uint32_t empty;   // [kStages] barriers: every consumer warp is done with it
  // From this block's shared memory to that of the other block of a pair; 0 if there is none. A pair fills
  // both rings in step: a stage is empty when the consumers of both are done with it.
  std::uint32_t to_other = 0;
  int stage = 0;
  std::uint32_t phase = 0;

  // `shared`: kRingBytes, aligned to 1024.
  __device__ __forceinline__ Ring(std::uint32_t shared, bool is_paired)
      : stages(shared), full(shared + S::kStageBytes), empty(full + S::kStages * 8) {
    if (is_paired) to_other = address_in_cluster(shared, rank_in_cluster() ^ 1U) - shared;
  }
  // One thread, before all others use it.
  __device__ __forceinline__ void init() const {
    for (int i = 0; i < S::kStages; ++i) {
      mbarrier_init(full + i * 8, 1);
      mbarrier_init(empty + i * 8, to_other != 0 ? 2 * kConsumerWarps : kConsumerWarps);
    }
  }
  __device__ __forceinline__ std::uint32_t a() const { return stages + stage * S::kBytesOfStage; }
  __device__ __forceinline__ std::uint32_t b() const { return a() + S::kBytesA; }
  __device__ __forceinline__ std::uint32_t full_barrier() const { return full + stage * 8; }
  __device__ __forceinline__ std::uint32_t empty_barrier() const { return empty + stage * 8; }
  // A consumer warp is done with the stage of that empty barrier.
  __device__ __forceinline__ void release(std::uint32_t barrier) const {
    mbarrier_arrive(barrier);
    if (to_other != 0) mbarrier_arrive_in_cluster(barrier + to_other);
  }
  __device__ __forceinline__ void advance() {
    if (++stage == S::kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// Widest last column tile that is computed only in part; of a gated product gate's columns and up's.
constexpr int kNarrow = 192;

// The narrow column goes last where it is one of at least so many: rows are then read once more
// from device memory, which among few columns costs more than the better balance gains.
constexpr int kColumnsForNarrowLast = 5;

// The column tiles of a product: the first `wide` go with each row tile, the others come last.
struct ColumnTiles {
  std::int32_t count;
  std::int32_t wide;
};

template <typename V>
__device__ __forceinline__ ColumnTiles column_tiles(const GroupedGemmParams& params) {
  const std::int32_t columns = (params.n + V::kColumnsOut - 1) / V::kColumnsOut;
  const std::int32_t last = params.n - (columns - 1) * V::kColumnsOut;
  const bool narrow_last = !V::kGated && last <= kNarrow && columns >= kColumnsForNarrowLast;
  return {columns, narrow_last ? columns - 1 : columns};
}

// How many steps of a piece a stage of the ring holds. Of a quarter of the columns it holds two: with
// one in each, loads on their way would be too few bytes.
constexpr int kStepsOfQuarter = 2;

// Calls `act` with the number for a piece, an integral_constant: loops are compiled for it.
template <typename V, typename Act>
__device__ __forceinline__ void with_steps_of_stage(const Piece& piece, Act act) {
  if constexpr (V::kSplitColumns && V::kBoxes == 4) {
    static_assert(kStepsOfQuarter * (V::kBytesA + kBytesOfQuarter) <= V::kBytesOfStage);
    if (piece.count == 4) return act(std::integral_constant<int, kStepsOfQuarter>{});
  }
  act(std::integral_constant<int, 1>{});
}

// Where in a stage of so many steps the weights begin: after all steps' rows.
template <typename V, int STEPS>
__device__ __forceinline__ std::uint32_t weights_of_stage(const Ring<V::kBlockM>& ring) {
  return ring.a() + STEPS * V::kBytesA;
}

}  // namespace sm90
}  // namespace comet::cuda
