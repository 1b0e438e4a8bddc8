// SPDX-License-Identifier: Apache-2.0
// What the roles of the fused kernel's blocks share: threads and registers, shared memory, and the walk of the products.
#pragma once

#include "backend/cuda/kernels/overlap_combine.cuh"
#include "backend/cuda/kernels/overlap_copies.cuh"
#include "backend/cuda/kernels/sm90_gemm_tile.cuh"
#include "layout/item_walk.hpp"

namespace comet::cuda::overlap {

constexpr int kWarpgroup = 128;
constexpr int kThreads = 3 * kWarpgroup;

// Registers of the first warpgroup and of those that multiply: 136 + 2 * 184 of 512 a
// lane. None spills. A fourth warpgroup would leave a launch 128 a thread, and wgmma of 256 columns
// wants 154 (ptxas C7602).
constexpr int kServiceRegisters = 136;
constexpr int kMathRegisters = 184;

constexpr int kLoaderWarp = 0;
constexpr int kPullerWarp = 1;
constexpr int kFirstMathWarp = kPullerWarp + kCopyWarps;
constexpr int kCombinerWarps = kThreads / kLanes - 1;  // all but the loader

// What the loader tells the math warps.
struct Work {
  enum class Kind : std::int32_t { first, second, finish };
  Kind kind;
  std::int32_t tile;
  std::int32_t column;
  // Of a pair of blocks: the other computes it, too, and counts it.
  bool is_copy;
};

// What the loader of a pair's first block tells that of the second.
struct Order {
  Work work;
  bool shares_weights;  // with the first block's
};

constexpr int kMathBarrier = 1;  // of all math warps; 0 is __syncthreads
constexpr int kWorkSlots = 4;    // a power of two
// More than the pair's first block can be ahead of the second: both have the same ring, so by as many steps as
// it has stages, of which an item has one at least. A power of two.
constexpr int kOrderSlots = 8;

template <int BLOCK_M>
struct Shared {
  static constexpr std::int32_t kPullBytes = BLOCK_M == 64 ? 8192 : 16384;
  alignas(
      1024) std::uint8_t ring[sm90::Shape<BLOCK_M>::kRingBytes];  // then of the math warps' sums
  alignas(128) std::uint8_t pulls[kPullBytes];                    // then of the puller's sums
  alignas(128) std::uint8_t sums[kCopyWarps - 1][SumBuffers::kBytes];
  std::uint64_t pull_barriers[kCopyWarps][Puller::kMostBuffers];
  std::uint64_t work_full[kWorkSlots];    // the loader has written it
  std::uint64_t work_stored[kWorkSlots];  // the math warps have stored its results
  Work work[kWorkSlots];
  std::uint64_t order_full[kOrderSlots];  // the other block has written it
  Order orders[kOrderSlots];
  bool is_abandoned;  // of a pair's first block: before the call came to this kernel
  unsigned long long told_ns[kWorkSlots];  // if the call is traced
  CombinerState combiners[kCombinerWarps];
};

template <int BLOCK_M>
__device__ __forceinline__ Shared<BLOCK_M>& shared_of_block() {
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];
  return *reinterpret_cast<Shared<BLOCK_M>*>(dynamic_shared);
}

// Volatile, so that the address is made again where it is used and no register holds it meanwhile.
template <int BLOCK_M>
__device__ __forceinline__ CombinerState& combiner_state() {
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return shared_of_block<BLOCK_M>().combiners[thread / kLanes - 1];
}

// Of a column tile of the second product.
__device__ __forceinline__ std::int32_t panel_of(const OverlapParams& p, std::int32_t column) {
  return p.call.panels.of(column * kGemmBlockN);
}

template <typename T, int BLOCK_M>
struct Types {
  using Gated = sm90::Variant<true, T, BLOCK_M>;
  using Plain = sm90::Variant<false, T, BLOCK_M>;
  using Ring = sm90::Ring<BLOCK_M>;
};

template <typename T, int BLOCK_M>
__device__ __forceinline__ sm90::ColumnTiles first_column_tiles(const OverlapParams& p) {
  using Of = Types<T, BLOCK_M>;
  return p.is_gated ? sm90::column_tiles<typename Of::Gated>(p.first)
                    : sm90::column_tiles<typename Of::Plain>(p.first);
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ ItemWalk walk_of_products(const OverlapParams& p) {
  const sm90::ColumnTiles first = first_column_tiles<T, BLOCK_M>(p);
  return {{.num_tiles = p.call.plan.counters->num_tiles,
           .phases = p.choice.phases,
           .first_columns = first.count,
           .first_wide = first.wide,
           .second_columns = static_cast<std::int32_t>(ceil_div(p.second.n, kGemmBlockN)),
           .num_blocks = static_cast<std::int32_t>(gridDim.x),
           .together = sm90::is_paired() ? 2 : 1},
          p.call.panels,
          kGemmBlockN};
}

}  // namespace comet::cuda::overlap
