// SPDX-License-Identifier: Apache-2.0
// Grouped GEMM on Hopper: c[rows of expert e] = epilogue(a[rows of expert e] * weights[e]^T),
// bfloat16 operands, float32 accumulation.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/host/cuda_error.hpp"
#include "base/platform.hpp"
#include "comet/desc.hpp"
#include "comet/weights.hpp"
#include "plan/plan.hpp"

namespace comet::cuda {

/// Rows of a tile; a layer on the GPU has LayerDims::block_m equal to this.
inline constexpr int kGemmBlockM = 128;

/// Columns of a weight tile: all of one matrix, or half of gate's and half of up's.
inline constexpr int kGemmBlockN = 256;

struct GroupedGemmDesc {
  std::int64_t num_experts = 0;
  std::int64_t row_slots = 0;  ///< Rows of a and c: capacity in tiles times kGemmBlockM.
  std::int64_t k = 0;          ///< Inner size, a multiple of 8.
  std::int64_t n = 0;          ///< Columns of c, a multiple of 8.
  bool gated = false;          ///< c = f(a gate^T) * (a up^T); else c = a up^T, or f of it.
  bool activated = false;      ///< Whether f applies. A gated product has it always.
  Activation activation = Activation::silu;
};

/// What the kernel reads; all pointers are device memory.
struct GroupedGemmParams {
  CUtensorMap a_map = {};
  const CUtensorMap* weight_maps = nullptr;  ///< [num_experts, gated ? 2 : 1]: gate, up
  const Tile* tiles = nullptr;               ///< [*num_tiles] row tile t is row slots t * 128 on
  const std::int32_t* num_tiles = nullptr;   ///< Read on the device: a plan may be made there.
  const float* row_weights = nullptr;        ///< [row_slots] multiplies f's result; null for none
  void* c = nullptr;                         ///< bf16 [row_slots, n]
  std::int32_t k = 0;
  std::int32_t n = 0;
  bool activated = false;
  Activation activation = Activation::silu;
};

/// A row tile and a column tile.
struct GemmItem {
  std::int32_t tile;
  std::int32_t column;
};

/// Item `index` of num_tiles x (wide_columns and maybe a narrow one). Sixteen row tiles go through
/// all wide columns before the next sixteen, so that their rows and the columns' weights stay in
/// L2. The narrow column of all tiles comes last: its items are short and fill up what the others
/// left.
COMET_HOST_DEVICE constexpr GemmItem gemm_item(std::int32_t index, std::int32_t num_tiles,
                                               std::int32_t wide_columns) {
  const std::int32_t wide_items = num_tiles * wide_columns;
  if (index >= wide_items) return {index - wide_items, wide_columns};
  constexpr std::int32_t kTilesOfBand = 16;
  const std::int32_t items_of_band = kTilesOfBand * wide_columns;
  const std::int32_t band = index / items_of_band;
  const std::int32_t first = band * kTilesOfBand;
  const std::int32_t height = num_tiles - first < kTilesOfBand ? num_tiles - first : kTilesOfBand;
  const std::int32_t rest = index - band * items_of_band;
  return {first + rest % height, rest / height};
}

/// One product of a layer, bound to its buffers. Creation allocates the tensor maps; launches
/// allocate nothing, wait for nothing and may be captured in a graph.
class GroupedGemm {
 public:
  /// `a` bf16 [row_slots, k] and `c` bf16 [row_slots, n] in device memory, aligned to 16 bytes;
  /// every matrix of `gate` (gated only) and `up` is [n, k] with row stride a multiple of 8. All
  /// must outlive this object. Throws Error(invalid_argument) for sizes that TMA cannot load,
  /// Error(unsupported) where there is no Hopper GPU.
  GroupedGemm(const GroupedGemmDesc& desc, const void* a, const ExpertMatrices& gate,
              const ExpertMatrices& up, void* c);

  /// Computes the rows in use of `tiles` [*num_tiles] on at most `num_blocks` thread blocks, one
  /// per multiprocessor; the other rows of c keep what they hold. `row_weights` may be null.
  void launch(const Tile* tiles, const std::int32_t* num_tiles, const float* row_weights,
              int num_blocks, cudaStream_t stream) const;

 private:
  GroupedGemmParams params_;
  bool gated_;
  DeviceBuffer<CUtensorMap> weight_maps_;
};

// Instances of the kernel, a file each.
void launch_sm90_grouped_gemm_plain(const GroupedGemmParams& params, int num_blocks,
                                    cudaStream_t stream);
void launch_sm90_grouped_gemm_gated(const GroupedGemmParams& params, int num_blocks,
                                    cudaStream_t stream);

}  // namespace comet::cuda
