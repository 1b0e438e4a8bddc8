// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM kernel: persistent, one block per multiprocessor. One thread loads tiles by TMA
// into a ring of stages, two warpgroups multiply 64 rows each and write them from registers.
#pragma once

#include <cuda_bf16.h>

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/kernels/grouped_gemm.hpp"

namespace comet::cuda {
namespace sm90 {

constexpr int kBlockM = kGemmBlockM;
constexpr int kBlockN = kGemmBlockN;
constexpr int kBlockK = 64;  // 128 bytes, one swizzle row
constexpr int kStages = 4;   // 192 KB: what fits
constexpr int kBytesA = kBlockM * kBlockK * 2;
constexpr int kBytesB = kBlockN * kBlockK * 2;
constexpr int kBytesOfStage = kBytesA + kBytesB;
constexpr int kConsumerWarps = 8;
constexpr int kThreads = 128 + kConsumerWarps * 32;
constexpr int kSharedBytes = kStages * kBytesOfStage + 2 * kStages * 8;

// Registers of the loading warpgroup and of the multiplying ones: 65,536 in all.
constexpr int kLoaderRegisters = 40;
constexpr int kMathRegisters = 232;

struct Ring {
  std::uint32_t stages;  // shared address of stage 0: a, then b
  std::uint32_t full;    // [kStages] barriers: the bytes of a stage are there
  std::uint32_t empty;   // [kStages] barriers: every consumer warp is done with it
  int stage = 0;
  std::uint32_t phase = 0;

  __device__ __forceinline__ std::uint32_t a() const { return stages + stage * kBytesOfStage; }
  __device__ __forceinline__ std::uint32_t b() const { return a() + kBytesA; }
  __device__ __forceinline__ std::uint32_t full_barrier() const { return full + stage * 8; }
  __device__ __forceinline__ std::uint32_t empty_barrier() const { return empty + stage * 8; }
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

template <bool GATED>
constexpr int kColumnsOut = GATED ? kBlockN / 2 : kBlockN;

// Widest last column tile of a plain product that is computed only in part.
constexpr int kNarrow = 192;

// The narrow column goes last where it is one of at least so many: rows are then read once more
// from device memory, which among few columns costs more than the better balance gains.
constexpr int kColumnsForNarrowLast = 5;

// All roles walk the same items: block b takes b, b + gridDim.x, ...
template <bool GATED, typename Visit>
__device__ __forceinline__ void for_each_item(const GroupedGemmParams& params, Visit visit) {
  const std::int32_t num_tiles = *params.num_tiles;
  const std::int32_t columns = (params.n + kColumnsOut<GATED> - 1) / kColumnsOut<GATED>;
  const std::int32_t last = params.n - (columns - 1) * kColumnsOut<GATED>;
  const bool narrow_last = !GATED && last <= kNarrow && columns >= kColumnsForNarrowLast;
  const std::int32_t wide = narrow_last ? columns - 1 : columns;
  for (std::int32_t i = blockIdx.x; i < num_tiles * columns; i += gridDim.x) {
    visit(gemm_item(i, num_tiles, wide));
  }
}

template <bool GATED>
__device__ __forceinline__ void load_tiles(const GroupedGemmParams& params, Ring ring) {
  const int steps = (params.k + kBlockK - 1) / kBlockK;
  std::int32_t acquired = -1;
  for_each_item<GATED>(params, [&](const GemmItem& item) {
    const std::int32_t expert = params.tiles[item.tile].expert;
    const CUtensorMap* maps = params.weight_maps + expert * (GATED ? 2 : 1);
    if (expert != acquired) {
      tensor_map_acquire(maps);
      if (GATED) tensor_map_acquire(maps + 1);
      acquired = expert;
    }
    const int row = item.tile * kBlockM;
    const int column = item.column * kColumnsOut<GATED>;
    for (int step = 0; step < steps; ++step) {
      mbarrier_wait(ring.empty_barrier(), ring.phase ^ 1);
      mbarrier_expect(ring.full_barrier(), kBytesOfStage);
      const int k = step * kBlockK;
      tma_load_2d(ring.a(), &params.a_map, k, row, ring.full_barrier());
      tma_load_2d(ring.b(), maps, k, column, ring.full_barrier());
      if (GATED) {  // up's rows follow gate's: one tile of 256 rows to wgmma
        tma_load_2d(ring.b() + kBytesB / 2, maps + 1, k, column, ring.full_barrier());
      }
      ring.advance();
    }
  });
}

__device__ __forceinline__ float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::silu:
      return __fdividef(x, 1.0F + __expf(-x));
    case Activation::gelu:
      return 0.5F * x * (1.0F + erff(x * 0.70710678F));
    default:
      return fmaxf(x, 0.0F);
  }
}

// Turns the accumulators into results in the first COLUMNS / 2 of `d`: column j of gate is d[j], of
// up d[j + 64], of the same thread and row.
template <bool GATED, int COLUMNS>
__device__ __forceinline__ void finish(float (&d)[128], const GroupedGemmParams& params,
                                       float weight_low, float weight_high) {
  if (!GATED && !params.activated) return;
#pragma unroll
  for (int i = 0; i < COLUMNS / 2; ++i) {
    const float f = activate(params.activation, d[i]);
    const float weight = (i & 2) == 0 ? weight_low : weight_high;
    d[i] = (GATED ? f * d[GATED ? i + 64 : i] : f) * weight;
  }
}

__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
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
template <int COLUMNS>
__device__ __forceinline__ void store(const float (&d)[128], const GroupedGemmParams& params,
                                      int tile, int first_column, int row, int rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = first_column + (lane & 3) * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int tile_row = row + half * 8;
    auto* to = static_cast<__nv_bfloat16*>(params.c) +
               (static_cast<std::int64_t>(tile) * kBlockM + tile_row) * params.n + column;
#pragma unroll
    for (int run = 0; run < COLUMNS / 32; ++run) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 16 * run + 4 * i + 2 * half;
        words[i] = pack(d[at], d[at + 1]);
      }
      transpose_quad(words, lane);
      if (tile_row < rows && column + run * 32 < params.n) {
        *reinterpret_cast<uint4*>(to + run * 32) =
            make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

// A warpgroup without rows in use only hands the stages on.
__device__ __forceinline__ void pass_stages(Ring& ring, int steps, bool elected) {
  for (int step = 0; step < steps; ++step) {
    mbarrier_wait(ring.full_barrier(), ring.phase);
    if (elected) mbarrier_arrive(ring.empty_barrier());
    ring.advance();
  }
}

template <int WIDTH>
__device__ __forceinline__ void multiply(float (&d)[128], Ring& ring, int warpgroup, int steps,
                                         bool elected) {
  std::uint32_t previous = 0;
  for (int step = 0; step < steps; ++step) {
    mbarrier_wait(ring.full_barrier(), ring.phase);
    const std::uint64_t a = wgmma_descriptor(ring.a() + warpgroup * (kBytesA / 2));
    const std::uint64_t b = wgmma_descriptor(ring.b());
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kBlockK / 16; ++k) {
      wgmma<WIDTH>(d, a + 2 * k, b + 2 * k, step > 0 || k > 0);
    }
    wgmma_commit();
    wgmma_wait<1>();  // the step before is done: its stage is free
    if (step > 0 && elected) mbarrier_arrive(previous);
    previous = ring.empty_barrier();
    ring.advance();
  }
  wgmma_wait<0>();
  if (elected) mbarrier_arrive(previous);
}

// A consumer warpgroup's part in an item: what it is and which of its rows the thread has.
struct Share {
  int tile;
  int first_column;
  int rows;       // in use, of the tile
  int row;        // the thread's upper one
  int warpgroup;  // 0 or 1
  int steps;
};

// Accumulators live and die here: were they shared by the widths, ptxas would serialise wgmma.
template <bool GATED, int WIDTH>
__device__ __forceinline__ void compute(const GroupedGemmParams& params, const Share& share,
                                        Ring& ring, bool elected) {
  constexpr int kColumns = GATED ? WIDTH / 2 : WIDTH;
  float d[128];
  multiply<WIDTH>(d, ring, share.warpgroup, share.steps, elected);
  const std::int64_t slot = static_cast<std::int64_t>(share.tile) * kBlockM + share.row;
  const bool weighted = params.row_weights != nullptr;
  const float low = weighted && share.row < share.rows ? params.row_weights[slot] : 1.0F;
  const float high = weighted && share.row + 8 < share.rows ? params.row_weights[slot + 8] : 1.0F;
  finish<GATED, kColumns>(d, params, low, high);
  store<kColumns>(d, params, share.tile, share.first_column, share.row, share.rows);
}

// The last column tile is computed only as far as it has columns, which saves a product with 1600
// columns a tenth. Not a gated one, whose halves lie apart: two narrow wgmma in one pipeline stage
// ask for more registers than there are (ptxas C7511). The width depends on sizes alone, so results
// do.
template <bool GATED>
__device__ __forceinline__ void compute_tiles(const GroupedGemmParams& params, Ring ring,
                                              int warpgroup) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool elected = lane == 0;
  const int steps = (params.k + kBlockK - 1) / kBlockK;
  for_each_item<GATED>(params, [&](const GemmItem& item) {
    const Share share{.tile = item.tile,
                      .first_column = item.column * kColumnsOut<GATED>,
                      .rows = params.tiles[item.tile].rows,
                      .row = warpgroup * 64 + warp * 16 + lane / 4,
                      .warpgroup = warpgroup,
                      .steps = steps};
    const int columns = params.n - share.first_column;
    if (share.rows <= warpgroup * 64) return pass_stages(ring, steps, elected);
    if constexpr (GATED) {
      compute<true, 256>(params, share, ring, elected);
    } else {
      if (columns > kNarrow) return compute<false, 256>(params, share, ring, elected);
      if (columns > 128) return compute<false, 192>(params, share, ring, elected);
      if (columns > 64) return compute<false, 128>(params, share, ring, elected);
      compute<false, 64>(params, share, ring, elected);
    }
  });
}

template <bool GATED>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_kernel(const __grid_constant__ GroupedGemmParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  Ring ring;
  ring.stages = shared_address(shared);
  ring.full = ring.stages + kStages * kBytesOfStage;
  ring.empty = ring.full + kStages * 8;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(ring.full + i * 8, 1);
      mbarrier_init(ring.empty + i * 8, kConsumerWarps);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<kLoaderRegisters>();
    if (threadIdx.x == 0) load_tiles<GATED>(params, ring);
  } else {
    take_registers<kMathRegisters>();
    compute_tiles<GATED>(params, ring, static_cast<int>(threadIdx.x) / 128 - 1);
  }
}

template <bool GATED>
void launch_grouped_gemm(const GroupedGemmParams& params, int num_blocks, cudaStream_t stream) {
  // Set before each launch: it belongs to a device, and costs less than a microsecond.
  check_cuda(cudaFuncSetAttribute(grouped_gemm_kernel<GATED>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
             "asking for the grouped GEMM's shared memory");
  grouped_gemm_kernel<GATED><<<num_blocks, kThreads, kSharedBytes, stream>>>(params);
  check_cuda(cudaGetLastError(), "launching the grouped GEMM");
}

}  // namespace sm90
}  // namespace comet::cuda
