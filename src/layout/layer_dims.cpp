// SPDX-License-Identifier: Apache-2.0
#include "layout/layer_dims.hpp"

#include <algorithm>
#include <iterator>

namespace comet {

LayerDims make_layer_dims(const MoeDesc& desc, const ParallelDesc& parallel, int rank) {
  LayerDims dims;
  dims.world = static_cast<std::int32_t>(parallel.world_size());
  dims.rank = rank;
  dims.tp = static_cast<std::int32_t>(parallel.tp);
  dims.num_experts = static_cast<std::int32_t>(desc.num_experts);
  dims.num_local =
      static_cast<std::int32_t>(local_experts(desc, parallel, rank / parallel.tp).size());
  dims.topk = static_cast<std::int32_t>(desc.topk);
  dims.hidden = desc.hidden;
  dims.inter_local = desc.intermediate / parallel.tp;
  dims.max_tokens = desc.max_tokens;
  dims.element_bytes = static_cast<std::int64_t>(size_of(desc.dtype));
  return dims;
}

std::vector<std::int32_t> local_indices(const std::vector<std::int32_t>& ep_rank_of,
                                        std::int64_t ep) {
  std::vector<std::int32_t> counts(ep, 0);
  std::vector<std::int32_t> local_of;
  for (const std::int32_t owner : ep_rank_of) local_of.push_back(counts[owner]++);
  return local_of;
}

namespace {

// Rates relative to a large product, measured on one AVX-512 core (oneDNN, f32, K = 1024).
constexpr struct {
  std::int64_t block_m;
  double rate;
} kRowTiles[] = {{16, 0.50}, {32, 0.67}, {64, 0.85}, {128, 0.95}, {256, 1.0}};

// Taller tiles compute faster and waste more: half a tile per expert on average. Of nearly equal
// ones the shortest, which is ready earliest.
std::int64_t choose_block_m(std::int64_t rows_per_expert) {
  constexpr double kNearlyEqual = 0.98;
  const auto rows = static_cast<double>(std::max<std::int64_t>(rows_per_expert, 1));
  const auto score = [rows](const auto& tile) {
    return tile.rate * rows / (rows + static_cast<double>(tile.block_m) / 2);
  };
  double best = 0;
  for (const auto& tile : kRowTiles) best = std::max(best, score(tile));
  const auto* chosen =
      std::find_if(std::begin(kRowTiles), std::end(kRowTiles),
                   [&](const auto& tile) { return score(tile) >= kNearlyEqual * best; });
  return chosen->block_m;
}

// 256 columns x 1024 x 4 bytes is half of a core's L2; wider tiles gain nothing (same bench).
constexpr std::int64_t kWidestTile = 256;

// As few tiles as the widest would need, of nearly equal width: a narrow last one would be slow.
// Whole pairs of vectors, which bfloat16 products want.
std::int64_t choose_block_n(std::int64_t columns) {
  return round_up(ceil_div(columns, max_of(1, ceil_div(columns, kWidestTile))), 32);
}

}  // namespace

void choose_tile(LayerDims& dims) {
  if (dims.block_m == 0) {
    const std::int64_t rows_per_expert =
        dims.world * dims.max_tokens * dims.topk / std::max(dims.num_experts, 1);
    dims.block_m = choose_block_m(rows_per_expert);
  }
  // Eight panels want to be sent while the next is computed. The second GEMM's inner axis is long
  // where H is short, so 32 columns cost it little (the same bench, K = 1408: 0.96).
  const std::int64_t eighth = round_up(ceil_div(dims.hidden, 8), 16);
  const std::int64_t widest = dims.block_n > 0 ? dims.block_n : kWidestTile;
  dims.panel_n = std::clamp<std::int64_t>(eighth, std::min<std::int64_t>(32, widest), widest);
  if (dims.block_n == 0) dims.block_n = choose_block_n(dims.inter_local);
}

}  // namespace comet
