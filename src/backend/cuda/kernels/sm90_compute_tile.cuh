// SPDX-License-Identifier: Apache-2.0
// How two warpgroups of a block compute a grouped GEMM's tile, see sm90_gemm_tile.cuh.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/kernels/sm90_gemm_tile.cuh"

namespace comet::cuda {
namespace sm90 {

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
__device__ __forceinline__ void pass_stages(Ring<BLOCK_M>& ring, int stages, bool elected) {
  for (int stage = 0; stage < stages; ++stage) {
    mbarrier_wait(ring.full_barrier(), ring.phase);
    __syncwarp();  // no lane may find the stage full again
    if (elected) ring.release(ring.empty_barrier());
    ring.advance();
  }
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

template <typename V, int WIDTH, int STEPS>
__device__ __forceinline__ void multiply(float (&d)[128], Ring<V::kBlockM>& ring, const Share& share,
                                         bool elected) {
  std::uint32_t previous = 0;
  int in_stage = 0;  // steps done of the present one
  for (int step = 0; step < share.steps; ++step) {
    if (in_stage == 0) mbarrier_wait(ring.full_barrier(), ring.phase);
    const std::uint64_t a = wgmma_descriptor(ring.a() + share.a_offset + in_stage * V::kBytesA);
    const std::uint64_t b = wgmma_descriptor(weights_of_stage<V, STEPS>(ring) + share.b_offset +
                                             in_stage * kBytesOfQuarter);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kBlockK / 16; ++k) {
      wgmma<WIDTH, typename V::Element>(d, a + 2 * k, b + 2 * k, step > 0 || k > 0);
    }
    wgmma_commit();
    wgmma_wait<1>();  // the step before is done: its stage is free if it was that one's last
    if (in_stage == 0 && step > 0 && elected) ring.release(previous);
    if (++in_stage == STEPS || step + 1 == share.steps) {
      in_stage = 0;
      previous = ring.empty_barrier();
      ring.advance();
    }
  }
  wgmma_wait<0>();
  if (elected) ring.release(previous);
}

// Accumulators live and die here: were they shared by the widths, ptxas would serialise wgmma.
template <typename V, int WIDTH, int STEPS = 1>
__device__ __forceinline__ void compute(const GroupedGemmParams& params, const Share& share,
                                        Ring<V::kBlockM>& ring, bool elected) {
  constexpr int kColumns = V::kGated ? WIDTH / 2 : WIDTH;
  float d[128];
  multiply<V, WIDTH, STEPS>(d, ring, share, elected);
  const std::int64_t slot = static_cast<std::int64_t>(share.tile) * V::kBlockM + share.row;
  const bool weighted = params.row_weights != nullptr;
  const float low = weighted && share.row < share.rows ? params.row_weights[slot] : 1.0F;
  const float high = weighted && share.row + 8 < share.rows ? params.row_weights[slot + 8] : 1.0F;
  finish<V::kGated, kColumns>(d, params, low, high);
  store<V, kColumns>(d, params, share.tile, share.first_column, share.row, share.rows);
}

// The last column tile is computed only as far as it has columns, which saves a product with 1600
// columns a tenth. A gated one's halves are loaded side by side then, narrow_box_rows of each, which the
// widths here must equal: two narrow wgmma in one pipeline stage ask for more registers than there are
// (ptxas C7511). The width depends on sizes alone, so results do.
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
  const int piece_begin = piece.index * (V::kColumnsOut / piece.count);
  if (piece.count > 1) {
    begin = max(begin, piece_begin);
    end = min(end, piece_begin + V::kColumnsOut / piece.count);
  }
  const int first_column = item.column * V::kColumnsOut + begin;
  const Share share{
      .tile = item.tile,
      .first_column = first_column,
      .rows = params.tiles[item.tile].rows,
      .row = row_offset + warp * 16 + lane / 4,
      .a_offset = static_cast<std::uint32_t>(V::kSplitColumns ? 0 : warpgroup * (V::kBytesA / 2)),
      .b_offset = static_cast<std::uint32_t>((begin - piece_begin) / V::kBoxRows * V::kBoxStride),
      .steps = steps};
  const int columns = min(params.n - first_column, end - begin);
  if (share.rows <= row_offset || columns <= 0) {
    with_steps_of_stage<V>(piece, [&](auto steps_of_stage) {
      constexpr int kSteps = decltype(steps_of_stage)::value;
      pass_stages(ring, (steps + kSteps - 1) / kSteps, elected);
    });
    return;
  }
  if constexpr (V::kGated) {
    if constexpr (!V::kSplitColumns) {
      if (columns <= 32) return compute<V, 64>(params, share, ring, elected);
      if (columns <= 64) return compute<V, 128>(params, share, ring, elected);
      if (columns <= kNarrow / 2) return compute<V, kNarrow>(params, share, ring, elected);
    }
    compute<V, V::kWidth>(params, share, ring, elected);
  } else {
    if constexpr (V::kWidth == 256) {
      if (columns > kNarrow) return compute<V, 256>(params, share, ring, elected);
      if (columns > 128) return compute<V, 192>(params, share, ring, elected);
    }
    if (columns > 64) return compute<V, 128>(params, share, ring, elected);
    with_steps_of_stage<V>(piece, [&](auto steps_of_stage) {
      compute<V, 64, decltype(steps_of_stage)::value>(params, share, ring, elected);
    });
  }
}

}  // namespace sm90
}  // namespace comet::cuda
