// SPDX-License-Identifier: Apache-2.0
// Grouped GEMM on Hopper: c[rows of expert e] = epilogue(a[rows of expert e] * weights[e]^T),
// bfloat16 or float16 operands, float32 accumulation.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/kernels/follow.hpp"
#include "comet/desc.hpp"
#include "comet/dtype.hpp"
#include "comet/weights.hpp"
#include "layout/band_walk.hpp"
#include "plan/plan.hpp"

namespace comet::cuda {

/// Columns of a weight tile: all of one matrix, or half of gate's and half of up's.
inline constexpr int kGemmBlockN = 256;

/// Rows of a weight matrix that one TMA box loads. Tiles of 64 rows have small boxes, since one may
/// be computed by itself where there are too few tiles for all multiprocessors; those of 128 have
/// two, one for each block of a pair.
COMET_HOST_DEVICE constexpr int weight_box_rows(std::int32_t block_m) {
  return block_m == 64 ? kGemmBlockN / 4 : kGemmBlockN / 2;
}

/// Rows of gate, and of up, that are loaded and multiplied of a gated product's last column tile if
/// they are fewer than a tile's 128. Of Qwen2-MoE's 1408 columns four ranks have 352 each, of which
/// 96 are left for the last tile, and eight have 176, of which 48 are left and 64 loaded. 0: a
/// tile's. With tiles of 64 rows it is weights that take time, and what is past the last column is
/// not read from memory.
COMET_HOST_DEVICE constexpr std::int32_t narrow_box_rows(std::int64_t n, std::int32_t block_m) {
  constexpr std::int64_t kStep = 32;  // of widths that math warps are compiled for, half of one
  const std::int64_t last = (n - 1) % (kGemmBlockN / 2) + 1;
  const std::int64_t rows = (last + kStep - 1) / kStep * kStep;
  return block_m == 64 || rows == kGemmBlockN / 2 ? 0 : static_cast<std::int32_t>(rows);
}

/// Whether a launch that follows closely loads weights while the kernel before it still runs, which
/// lets it start for that.
COMET_HOST_DEVICE constexpr bool loads_ahead(std::int64_t block_m) { return block_m == 64; }

/// Of tiles of 64 rows with so many in use, or fewer, only so many are loaded: all would be as many
/// bytes as the weights where a tile is computed in pieces. What TMA's swizzle repeats after.
inline constexpr std::int32_t kFewTileRows = 8;

struct GroupedGemmDesc {
  std::int64_t num_experts = 0;
  std::int64_t row_slots = 0;  ///< Rows of a and c: capacity in tiles times block_m.
  /// Rows of a tile, 64 or 128: LayerDims::block_m of the layer. Results are the same bit for bit:
  /// every element is summed over k in the same order.
  std::int32_t block_m = 128;
  std::int64_t k = 0;         ///< Inner size, a multiple of 8.
  std::int64_t n = 0;         ///< Columns of c, a multiple of 8.
  DType dtype = DType::bf16;  ///< Of a, weights and c: bf16 or f16.
  bool gated = false;         ///< c = f(a gate^T) * (a up^T); else c = a up^T, or f of it.
  bool activated = false;     ///< Whether f applies. A gated product has it always.
  Activation activation = Activation::silu;
};

/// The block_m for calls with so many rows per expert on average. Weights are read once for each
/// row tile. Up to 64 rows that is once with either height, and 64-row tiles multiply no empty half
/// and leave shared memory for 160 instead of 128 KB of weights on their way. With more rows they
/// would read the weights twice as often, and their narrower wgmma reads more shared memory per
/// product.
constexpr std::int32_t choose_gemm_block_m(std::int64_t expected_rows_per_expert) {
  return expected_rows_per_expert <= 64 ? 64 : 128;
}

/// What the kernel reads; all pointers are device memory.
struct GroupedGemmParams {
  CUtensorMap a_map = {};                    ///< Boxes of a tile's rows.
  CUtensorMap few_rows_map = {};             ///< Boxes of kFewTileRows, of tiles of 64.
  const CUtensorMap* weight_maps = nullptr;  ///< [num_experts, gated ? 2 : 1]: gate, up
  const CUtensorMap* narrow_maps = nullptr;  ///< the same, boxes of narrow_rows; null if they are 0
  const Tile* tiles = nullptr;               ///< row tile t is row slots t * block_m on
  const std::int32_t* tile_range = nullptr;  ///< {first, end}; on the device, where plans are made
  const float* row_weights = nullptr;        ///< [row_slots] multiplies f's result; null for none
  void* c = nullptr;                         ///< [row_slots, n]
  std::int32_t k = 0;
  std::int32_t n = 0;
  std::int32_t narrow_rows = 0;  ///< narrow_box_rows of a gated product, else 0
  bool activated = false;
  Activation activation = Activation::silu;
};

/// How far the rows of a tile are that one product writes and the next one reads. 0 between
/// launches.
struct TileProgress {
  std::uint32_t written = 0;  ///< Warps that have stored their part.
  std::uint32_t readers = 0;  ///< Who has seen that all have.
};

/// A product of tiles of 64 rows, and one that reads what it writes, or none: without tile_range.
struct ProductChain {
  GroupedGemmParams first;
  GroupedGemmParams second;
  TileProgress* progress = nullptr;  ///< [row tiles]
  std::uint32_t* ticket = nullptr;   ///< 0 between launches: the next piece to be drawn.
  /// Whether the next kernel may start before all pieces are drawn: none that draws by this ticket.
  bool starts_next_early = false;
  std::uint32_t* abandoned = nullptr;  ///< This and the limit are ProductCall's.
  unsigned long long timeout_ns = 0;
};

/// What a layer's call gives to its products, all device memory.
struct ProductCall {
  /// 0: the next piece to be drawn, of products by one kernel; 0 again after the launch. No kernel
  /// that draws by it follows this one closely. Null: the product's own, by which any may.
  std::uint32_t* ticket = nullptr;
  /// Set if rows do not come for the time limit, which is if another call writes the plan
  /// meanwhile: results are none then. May be null.
  std::uint32_t* abandoned = nullptr;
  unsigned long long timeout_ns = 10'000'000'000;
};

/// Thread blocks of a launch.
struct GemmGrid {
  int num_blocks = 1;
  /// Whether two neighbours load a weight tile together, of an even number of blocks: where they
  /// find all multiprocessors of the rank free. Beside other kernels one may find no neighbour
  /// free, and its pair would run last.
  bool in_pairs = false;
};

/// One product of a layer, bound to its buffers. Creation allocates the tensor maps; launches
/// allocate nothing, wait for nothing and may be captured in a graph.
class GroupedGemm {
 public:
  /// `a` [row_slots, k] and `c` [row_slots, n] in device memory, aligned to 16 bytes; every matrix
  /// of `gate` (gated only) and `up` is [n, k] with row stride a multiple of 8. All must outlive
  /// this object. Sums are rounded once, to the nearest: float16's infinity where one is too large.
  /// Throws Error(invalid_argument) for sizes that TMA cannot load,
  /// Error(unsupported) where there is no Hopper GPU.
  GroupedGemm(const GroupedGemmDesc& desc, const void* a, const ExpertMatrices& gate,
              const ExpertMatrices& up, void* c);

  /// Computes the rows in use of tiles [tile_range[0], tile_range[1]) of `tiles` on at most
  /// grid.num_blocks thread blocks, one per multiprocessor; the other rows of c keep what they
  /// hold. Both are device memory: group g of a plan has the range group_tiles + g. `row_weights`
  /// may be null. Where weights are loaded ahead, the kernel before on the stream may write a and
  /// row_weights, but `tiles`, `tile_range` and weights must be there when that kernel lets this
  /// one start. Launches of one object must not overlap,
  /// but where one follows the other closely.
  void launch(const Tile* tiles, const std::int32_t* tile_range, const float* row_weights,
              GemmGrid grid, Follow follow, cudaStream_t stream) const;

  /// The same, and then `second` on the same tiles, whose `a` is this one's `c`: by one kernel
  /// where tiles have 64 rows. `row_weights` are of this product.
  void launch_with(const GroupedGemm& second, const Tile* tiles, const std::int32_t* tile_range,
                   const float* row_weights, const ProductCall& call, GemmGrid grid, Follow follow,
                   cudaStream_t stream) const;

  /// [row tiles] of tiles of 64 rows, else null: for who clears them before a launch_with, which
  /// else finds what the one before has cleared.
  TileProgress* progress() const noexcept { return progress_.data(); }

  /// What a kernel needs to compute tiles of it; without a range of tiles.
  GroupedGemmParams params(const Tile* tiles, const float* row_weights) const;

 private:
  void launch_chain(const GroupedGemm* second, const Tile* tiles, const std::int32_t* tile_range,
                    const float* row_weights, const ProductCall& call, int num_blocks,
                    Follow follow, cudaStream_t stream) const;

  GroupedGemmDesc desc_;
  GroupedGemmParams params_;
  const void* a_;
  DeviceBuffer<TileProgress> progress_;  // [row tiles], of tiles of 64 rows
  DeviceBuffer<std::uint32_t> ticket_;   // [1], of those
  DeviceBuffer<CUtensorMap> weight_maps_;
};

// Instances of the kernels; each file has those of both element types.
void launch_sm90_grouped_gemm_plain(const GroupedGemmParams& params, DType dtype, GemmGrid grid,
                                    Follow follow, cudaStream_t stream);
void launch_sm90_grouped_gemm_gated(const GroupedGemmParams& params, DType dtype, GemmGrid grid,
                                    Follow follow, cudaStream_t stream);
void launch_sm90_product_chain_plain(const ProductChain& chain, DType dtype, int num_blocks,
                                     Follow follow, cudaStream_t stream);
void launch_sm90_product_chain_gated(const ProductChain& chain, DType dtype, int num_blocks,
                                     Follow follow, cudaStream_t stream);

}  // namespace comet::cuda
