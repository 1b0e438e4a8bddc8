// SPDX-License-Identifier: Apache-2.0
// One tile of a grouped GEMM, by the warps of a block: one thread loads it by TMA into a ring of
// stages, two warpgroups multiply 64 rows each, or half of the columns each where a tile has only 64
// rows, and write them from registers. Which tile comes when is the kernels' business.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/kernels/grouped_gemm.hpp"

namespace comet::cuda {
namespace sm90 {

constexpr int kBlockN = kGemmBlockN;
constexpr int kBlockK = 64;  // 128 bytes, one swizzle row
constexpr int kBytesB = kBlockN * kBlockK * 2;
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
  static constexpr bool kLoadsAhead = loads_ahead(BLOCK_M);
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

// Widest last column tile of a plain product that is computed only in part.
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

// One step of a piece of a weight tile. A gated one holds rows of gate and of up, so that what a
// warpgroup multiplies is one operand to wgmma: gate's, then up's, half as many for each if they are
// two.
template <typename V>
__device__ __forceinline__ void load_weights(const Ring<V::kBlockM>& ring, const CUtensorMap* maps, int k,
                                             int column, const Piece& piece) {
  const int boxes = V::kBoxes / piece.count;
#pragma unroll
  for (int i = 0; i < V::kBoxes; ++i) {
    if (i >= boxes) break;
    const int box = piece.index * boxes + i;
    const std::uint32_t to = ring.b() + box * V::kBoxStride;
    const int row = column + box * V::kBoxRows;
    tma_load_2d(to, maps, k, row, ring.full_barrier());
    if (V::kGated) tma_load_2d(to + V::kBytesOfBox, maps + 1, k, row, ring.full_barrier());
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

// The tensor maps of an expert's weights. `acquired` is that whose maps the thread acquired last.
template <typename V>
__device__ __forceinline__ const CUtensorMap* acquire_weight_maps(const GroupedGemmParams& params,
                                                                  std::int32_t expert,
                                                                  std::int32_t& acquired) {
  const CUtensorMap* maps = params.weight_maps + expert * (V::kGated ? 2 : 1);
  if (expert != acquired) {
    tensor_map_acquire(maps);
    if (V::kGated) tensor_map_acquire(maps + 1);
    acquired = expert;
  }
  return maps;
}

// Has a new ring's stages expect the first steps of a piece, and loads their weights; says how many.
template <typename V>
__device__ __forceinline__ int load_weights_ahead(const GroupedGemmParams& params,
                                                  const GemmItem& item, Ring<V::kBlockM> ring,
                                                  std::int32_t& acquired, const Piece& piece) {
  const int steps = min((params.k + kBlockK - 1) / kBlockK, V::kStages);
  const std::int32_t expert = __ldcg(&params.tiles[item.tile].expert);  // before this kernel's wait
  const CUtensorMap* maps = acquire_weight_maps<V>(params, expert, acquired);
  for (int step = 0; step < steps; ++step) {
    mbarrier_expect(ring.full_barrier(), V::kBytesA + kBytesB / piece.count);
    load_weights<V>(ring, maps, step * kBlockK, item.column * V::kColumnsOut, piece);
    ring.advance();
  }
  return steps;
}

// Loads all steps of a piece of an item, and calls `on_step` after each. `shares`: the other block of
// the pair loads an item of the same column and expert now. `ahead`: of the ring's first item, so many
// steps' weights are on their way, by load_weights_ahead.
template <typename V, typename OnStep>
__device__ __forceinline__ void load_item(const GroupedGemmParams& params, const GemmItem& item,
                                          Ring<V::kBlockM>& ring, std::int32_t& acquired, OnStep on_step,
                                          const Piece& piece = {}, bool shares = false, int ahead = 0) {
  const int steps = (params.k + kBlockK - 1) / kBlockK;
  const CUtensorMap* maps = acquire_weight_maps<V>(params, params.tiles[item.tile].expert, acquired);
  const int row = item.tile * V::kBlockM;
  const int column = item.column * V::kColumnsOut;
  for (int step = 0; step < ahead; ++step) {
    tma_load_2d(ring.a(), &params.a_map, step * kBlockK, row, ring.full_barrier());
    ring.advance();
    on_step();
  }
  for (int step = ahead; step < steps; ++step) {
    mbarrier_wait(ring.empty_barrier(), ring.phase ^ 1);
    mbarrier_expect(ring.full_barrier(), V::kBytesA + kBytesB / piece.count);
    const int k = step * kBlockK;
    tma_load_2d(ring.a(), &params.a_map, k, row, ring.full_barrier());
    if constexpr (V::kBlockM == 128) {
      if (shares) {
        load_shared_weights<V>(ring, maps, k, column);
      } else {
        load_weights<V>(ring, maps, k, column, piece);
      }
    } else {
      load_weights<V>(ring, maps, k, column, piece);
    }
    ring.advance();
    on_step();
  }
}

template <Activation ACTIVATION>
__device__ __forceinline__ float activate(float x) {
  if constexpr (ACTIVATION == Activation::silu) return __fdividef(x, 1.0F + __expf(-x));
  if constexpr (ACTIVATION == Activation::gelu) return 0.5F * x * (1.0F + erff(x * 0.70710678F));
  return fmaxf(x, 0.0F);
}

template <bool GATED, int COLUMNS, Activation ACTIVATION>
__device__ __forceinline__ void finish_with(float (&d)[128], float weight_low, float weight_high) {
#pragma unroll
  for (int i = 0; i < COLUMNS / 2; ++i) {
    const float f = activate<ACTIVATION>(d[i]);
    const float weight = (i & 2) == 0 ? weight_low : weight_high;
    d[i] = (GATED ? f * d[GATED ? i + COLUMNS / 2 : i] : f) * weight;
  }
}

// Turns the accumulators into results in the first COLUMNS / 2 of `d`. If gated, d[j] is of gate
// and d[j + COLUMNS / 2] of up, of the same row and column. Each activation has a loop of its own:
// chosen in the loop, it made 74 KB of code, which a multiprocessor fetched again for each tile. Where
// eight processes shared an H200, with a copy each, products took 1.1 to 1.3 times as long as on eight
// threads for that.
template <bool GATED, int COLUMNS>
__device__ __forceinline__ void finish(float (&d)[128], const GroupedGemmParams& params,
                                       float weight_low, float weight_high) {
  if (!GATED && !params.activated) return;
  switch (params.activation) {
    case Activation::silu:
      return finish_with<GATED, COLUMNS, Activation::silu>(d, weight_low, weight_high);
    case Activation::gelu:
      return finish_with<GATED, COLUMNS, Activation::gelu>(d, weight_low, weight_high);
    default:
      return finish_with<GATED, COLUMNS, Activation::relu>(d, weight_low, weight_high);
  }
}

template <typename ELEMENT>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<ELEMENT, __half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

// Transposes 4 x 4 words within each four lanes, so that a lane which held two columns of four runs
// of eight holds one whole run: 16 bytes to store.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&words)[4], int lane) {
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & distance) != 0) continue;
      const bool upper = (lane & distance) != 0;
      const std::uint32_t sent = upper ? words[i] : words[i + distance];
      const std::uint32_t got = __shfl_xor_sync(0xffffffffU, sent, distance);
      if (upper) {
        words[i] = got;
      } else {
        words[i + distance] = got;
      }
    }
  }
}

// Writes the warp's 16 rows; `row` is the thread's upper one within the tile, `rows` those in use.
template <typename V, int COLUMNS>
__device__ __forceinline__ void store(const float (&d)[128], const GroupedGemmParams& params,
                                      int tile, int first_column, int row, int rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = first_column + (lane & 3) * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int tile_row = row + half * 8;
    auto* to = static_cast<typename V::Element*>(params.c) +
               (static_cast<std::int64_t>(tile) * V::kBlockM + tile_row) * params.n + column;
#pragma unroll
    for (int run = 0; run < COLUMNS / 32; ++run) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 16 * run + 4 * i + 2 * half;
        words[i] = pack<typename V::Element>(d[at], d[at + 1]);
      }
      transpose_quad(words, lane);
      if (tile_row < rows && column + run * 32 < params.n) {
        *reinterpret_cast<uint4*>(to + run * 32) =
            make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

// A warpgroup without rows or columns in use only hands the stages on.
template <int BLOCK_M>
__device__ __forceinline__ void pass_stages(Ring<BLOCK_M>& ring, int steps, bool elected) {
  for (int step = 0; step < steps; ++step) {
    mbarrier_wait(ring.full_barrier(), ring.phase);
    if (elected) ring.release(ring.empty_barrier());
    ring.advance();
  }
}

template <typename V, int WIDTH>
__device__ __forceinline__ void multiply(float (&d)[128], Ring<V::kBlockM>& ring, std::uint32_t a_offset,
                                         std::uint32_t b_offset, int steps, bool elected) {
  std::uint32_t previous = 0;
  for (int step = 0; step < steps; ++step) {
    mbarrier_wait(ring.full_barrier(), ring.phase);
    const std::uint64_t a = wgmma_descriptor(ring.a() + a_offset);
    const std::uint64_t b = wgmma_descriptor(ring.b() + b_offset);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kBlockK / 16; ++k) {
      wgmma<WIDTH, typename V::Element>(d, a + 2 * k, b + 2 * k, step > 0 || k > 0);
    }
    wgmma_commit();
    wgmma_wait<1>();  // the step before is done: its stage is free
    if (step > 0 && elected) ring.release(previous);
    previous = ring.empty_barrier();
    ring.advance();
  }
  wgmma_wait<0>();
  if (elected) ring.release(previous);
}

// A consumer warpgroup's part in an item: what it is and which of its rows the thread has.
struct Share {
  int tile;
  int first_column;
  int rows;       // in use, of the tile
  int row;        // the thread's upper one
  // Bytes from the tiles of a and of weights to what the warpgroup multiplies of them.
  std::uint32_t a_offset;
  std::uint32_t b_offset;
  int steps;
};

// Accumulators live and die here: were they shared by the widths, ptxas would serialise wgmma.
template <typename V, int WIDTH>
__device__ __forceinline__ void compute(const GroupedGemmParams& params, const Share& share,
                                        Ring<V::kBlockM>& ring, bool elected) {
  constexpr int kColumns = V::kGated ? WIDTH / 2 : WIDTH;
  float d[128];
  multiply<V, WIDTH>(d, ring, share.a_offset, share.b_offset, share.steps, elected);
  const std::int64_t slot = static_cast<std::int64_t>(share.tile) * V::kBlockM + share.row;
  const bool weighted = params.row_weights != nullptr;
  const float low = weighted && share.row < share.rows ? params.row_weights[slot] : 1.0F;
  const float high = weighted && share.row + 8 < share.rows ? params.row_weights[slot + 8] : 1.0F;
  finish<V::kGated, kColumns>(d, params, low, high);
  store<V, kColumns>(d, params, share.tile, share.first_column, share.row, share.rows);
}

// The last column tile is computed only as far as it has columns, which saves a product with 1600
// columns a tenth. Not a gated one, whose halves lie apart: two narrow wgmma in one pipeline stage
// ask for more registers than there are (ptxas C7511). The width depends on sizes alone, so results
// do.
template <typename V>
__device__ __forceinline__ void compute_item(const GroupedGemmParams& params, const GemmItem& item,
                                             Ring<V::kBlockM>& ring, int warpgroup, const Piece& piece = {}) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool elected = lane == 0;
  const int steps = (params.k + kBlockK - 1) / kBlockK;
  const int row_offset = V::kSplitColumns ? 0 : warpgroup * 64;
  // Columns of the tile that are the warpgroup's: [begin, end).
  int begin = V::kSplitColumns ? warpgroup * V::kColumnsOfWarpgroup : 0;
  int end = begin + V::kColumnsOfWarpgroup;
  if (piece.count > 1) {
    const int width = V::kColumnsOut / piece.count;
    begin = max(begin, piece.index * width);
    end = min(end, (piece.index + 1) * width);
  }
  const int first_column = item.column * V::kColumnsOut + begin;
  const Share share{
      .tile = item.tile,
      .first_column = first_column,
      .rows = params.tiles[item.tile].rows,
      .row = row_offset + warp * 16 + lane / 4,
      .a_offset = static_cast<std::uint32_t>(V::kSplitColumns ? 0 : warpgroup * (V::kBytesA / 2)),
      .b_offset = static_cast<std::uint32_t>(begin / V::kBoxRows * V::kBoxStride),
      .steps = steps};
  const int columns = min(params.n - first_column, end - begin);
  if (share.rows <= row_offset || columns <= 0) return pass_stages(ring, steps, elected);
  if constexpr (V::kGated) {
    compute<V, V::kWidth>(params, share, ring, elected);
  } else {
    if constexpr (V::kWidth == 256) {
      if (columns > kNarrow) return compute<V, 256>(params, share, ring, elected);
      if (columns > 128) return compute<V, 192>(params, share, ring, elected);
    }
    if (columns > 64) return compute<V, 128>(params, share, ring, elected);
    compute<V, 64>(params, share, ring, elected);
  }
}

}  // namespace sm90
}  // namespace comet::cuda
