// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/overlap_choice.hpp"

#include <algorithm>
#include <cmath>

namespace comet::cuda {
namespace {

constexpr int kLanes = 32;  // of a warp

// Rows of a token that a rank needs.
double rows_per_token(const LayerDims& dims) {
  if (dims.num_local == 0) return 1;
  const double share = static_cast<double>(dims.num_local) / dims.num_experts;
  return dims.topk * share / (1 - std::pow(1 - share, dims.topk));
}

// Ranks that send a token's home a partial sum of it.
double sources_per_token(const LayerDims& dims) {
  const double ep = static_cast<double>(dims.world) / dims.tp;
  return dims.world * (1 - std::pow(1 - 1 / ep, dims.topk));
}

// A token is pulled for one of its rows only: as many slots as have `tokens` of them.
std::int32_t slots_per_pull(std::int64_t tokens, double rows) {
  return static_cast<std::int32_t>(
      std::clamp(std::ceil(static_cast<double>(tokens) * rows), 1.0, static_cast<double>(kLanes)));
}

// A unit costs some microseconds whatever it holds, so it has up to two windows of a warp's
// entries; but there should be units for all warps where tokens have few entries.
std::int32_t tokens_per_push(double rows) {
  constexpr int kMost = 24;
  return std::clamp(static_cast<std::int32_t>(2 * kLanes / std::ceil(rows)), 1, kMost);
}

// A window of entries, if it is whole tokens.
std::int32_t tokens_per_home(double sources) {
  std::int32_t tokens = 16;
  while (tokens > 1 && tokens * sources > kLanes) tokens /= 2;
  return tokens;
}

}  // namespace

UniformCounts uniform_counts(const LayerDims& dims) {
  const double tokens_per_row = 1 / rows_per_token(dims);
  const double of_others = 1 - 1.0 / dims.world;
  return {tokens_per_row * of_others, tokens_per_row * (1 + of_others)};
}

OverlapChoice choose_overlap(const LayerDims& dims, const RunConfig& config) {
  constexpr double kFewRows = 2.5;
  // Steps of an item are the hidden size over 64. A pair begins when both of its items can, and
  // ends with the later: of 2048, Qwen2-MoE and Qwen3-MoE, that costs more than it gains;
  // Phi-3.5-MoE and Mixtral, of 4096, are faster.
  constexpr std::int64_t kLongItems = 4096;
  const double rows = rows_per_token(dims);
  const bool has_many = rows > kFewRows;
  return {.phases = config.groups,
          // Expert by expert weights are read least often, but a token is complete with its last
          // expert only, which with many rows is late for most. Then two halves of the tokens, each
          // expert by expert, beat more of them or one where the link is slow: by some percent with
          // the 4 rows a token of Qwen2-MoE at TP8, while the 2 of Phi-3.5-MoE are best in one. The
          // device takes one where the link is fast, since products read weights once more for two.
          .waves = has_many ? 2 : 1,
          .has_waves_if_slow = has_many,
          .slots_per_pull = slots_per_pull(config.chunk, rows),
          .tokens_per_push = tokens_per_push(rows),
          .tokens_per_last_push = (tokens_per_push(rows) + 2) / 3,
          .tokens_per_home = tokens_per_home(sources_per_token(dims)),
          // Sums of many rows are what takes longest: two warps of a block are left for them.
          .pull_warps = has_many ? 1 : 3,
          .in_pairs = dims.hidden >= kLongItems};
}

}  // namespace comet::cuda
