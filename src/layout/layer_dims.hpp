// SPDX-License-Identifier: Apache-2.0
// LayerDims: the sizes of one layer on one rank, worked out once from the descriptions.
#pragma once

#include <cstdint>
#include <vector>

#include "base/int_math.hpp"
#include "base/platform.hpp"
#include "comet/desc.hpp"

namespace comet {

/// Plain numbers that hosts and devices share.
struct LayerDims {
  std::int32_t world = 1;
  std::int32_t rank = 0;
  std::int32_t tp = 1;
  std::int32_t num_experts = 0;
  std::int32_t num_local = 0;  ///< Experts of this rank.
  std::int32_t topk = 0;
  std::int64_t hidden = 0;
  std::int64_t inter_local = 0;  ///< I / TP
  std::int64_t max_tokens = 0;
  std::int64_t element_bytes = 4;
  std::int64_t block_m = 0;
  std::int64_t block_n = 0;  ///< Columns of a tile of the first GEMM.
  std::int64_t panel_n = 0;  ///< Of the second GEMM, at most block_n: the narrowest panel.

  COMET_HOST_DEVICE constexpr std::int64_t row_bytes() const { return hidden * element_bytes; }
  /// Of a token's routing weights, float32.
  COMET_HOST_DEVICE constexpr std::int64_t weight_bytes() const { return std::int64_t{topk} * 4; }
};

/// Fills everything but block_m, block_n and panel_n. desc and parallel must be valid.
LayerDims make_layer_dims(const MoeDesc& desc, const ParallelDesc& parallel, int rank);

/// Index of each expert among those of its EP rank, [E], from the owners [E].
std::vector<std::int32_t> local_indices(const std::vector<std::int32_t>& ep_rank_of,
                                        std::int64_t ep);

/// Default tile: as many rows as an expert's share of a full batch fills at least once or twice,
/// since tails are computed whole, and columns that keep a weight panel inside a core's cache.
void choose_tile(LayerDims& dims);

}  // namespace comet
