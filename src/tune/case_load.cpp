// SPDX-License-Identifier: Apache-2.0
#include "tune/case_load.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/int_math.hpp"
#include "layout/layer_dims.hpp"

namespace comet {
namespace {

// Tiles of the GPU kernels: a gated product loads 128 columns of gate and 128 of up as one tile.
constexpr std::int64_t kDeviceTileRows = 128;
constexpr std::int64_t kDeviceFewRows = 64;
constexpr std::int64_t kDeviceDepth = 64;

struct Tile {
  std::int64_t rows = 0;
  std::int64_t row_step = 0;        ///< Rows are computed in multiples of it.
  std::int64_t columns = 0;         ///< As they are multiplied.
  std::int64_t first_columns = 0;   ///< Results of an item of the first product.
  std::int64_t depth = 1;           ///< K is rounded up to it.
  double first_columns_factor = 1;  ///< Columns multiplied for each of them.
};

Tile tile_of(const TuneCase& of, const TuneConfig& config) {
  const bool gated = of.desc.gated;
  if (of.backend == Backend::cuda) {
    const std::int64_t rows_per_expert = of.tokens * of.desc.topk / max_of(of.desc.num_experts, 1);
    const std::int64_t chosen =
        rows_per_expert <= kDeviceFewRows ? kDeviceFewRows : kDeviceTileRows;
    return {.rows = config.block_m > 0 ? config.block_m : chosen,
            .row_step = kDeviceFewRows,
            .columns = kDeviceTileColumns,
            .first_columns = kDeviceTileColumns / (gated ? 2 : 1),
            .depth = kDeviceDepth,
            .first_columns_factor = gated ? 2.0 : 1.0};
  }
  MoeDesc desc = of.desc;
  desc.max_tokens = ceil_div(of.tokens, of.parallel.world_size());
  LayerDims dims = make_layer_dims(desc, of.parallel, 0);
  dims.block_m = config.block_m;
  dims.block_n = config.block_n;
  choose_tile(dims);
  return {.rows = dims.block_m,
          .row_step = dims.block_m,
          .columns = dims.block_n,
          .first_columns = dims.block_n,
          .depth = 1,
          .first_columns_factor = gated ? 2.0 : 1.0};
}

void add_products(const TuneCase& of, const Tile& tile, CaseLoad& load) {
  const std::int64_t inter = of.desc.intermediate / of.parallel.tp;
  const auto gmac = [&](double columns, std::int64_t depth) {
    return static_cast<double>(tile.rows) * columns *
           static_cast<double>(round_up(depth, tile.depth)) * 1e-9;
  };
  load.first = {
      .items = load.row_tiles * static_cast<double>(ceil_div(inter, tile.first_columns)),
      .item_gmac = gmac(static_cast<double>(tile.first_columns) * tile.first_columns_factor,
                        of.desc.hidden)};
  load.second = {
      .items = load.row_tiles * static_cast<double>(ceil_div(of.desc.hidden, tile.columns)),
      .item_gmac = gmac(static_cast<double>(tile.columns), inter)};
}

// How far the largest of `count` about normal values lies above their mean, in deviations.
double largest_of(std::int64_t count) {
  return count > 1 ? 0.7 * std::sqrt(2 * std::log(static_cast<double>(count))) : 0;
}

// That none of a token's K distinct choices is among `local` of E experts.
double miss_probability(std::int64_t experts, std::int64_t local, std::int64_t topk) {
  double miss = 1;
  for (std::int64_t k = 0; k < std::min(topk, experts); ++k) {
    miss *=
        std::max(0.0, static_cast<double>(experts - local - k)) / static_cast<double>(experts - k);
  }
  return miss;
}

std::int64_t most_local_experts(const TuneCase& of) {
  return ceil_div(of.desc.num_experts, of.parallel.ep);
}

// Where the part `p` of about normal values lies below, in deviations.
double quantile(double p) { return std::log(p / (1 - p)) / 1.702; }

void add_tiles(const Tile& tile, std::int64_t rows, std::int32_t expert, CaseLoad& load) {
  for (std::int64_t first = 0; first < rows; first += tile.rows) {
    const std::int64_t used = round_up(std::min(tile.rows, rows - first), tile.row_step);
    load.tiles.push_back({static_cast<double>(used) / static_cast<double>(tile.rows), expert});
    load.row_tiles += load.tiles.back().part;
  }
}

// Experts differ as random routing has it, and in no order, so that tiles of two of them share a
// band now and then. Their rows add up to the rank's.
void expect_tiles(const Tile& tile, std::int64_t local, CaseLoad& load) {
  constexpr double kGolden = 0.6180339887498949;  // its multiples spread evenly over [0, 1)
  const double mean = load.rows / static_cast<double>(local);
  const double none = local > 1 ? std::exp(-mean) : 0;  // how likely an expert has no row
  for (std::int64_t e = 0; e < local; ++e) {
    const double turns = 0.5 + (static_cast<double>(2 * e - local + 1) / 2) * kGolden;
    const double p = turns - std::floor(turns);
    if (p <= none) continue;
    const double rows = std::max(1.0, mean + quantile(p) * std::sqrt(mean));
    add_tiles(tile, std::llround(rows), static_cast<std::int32_t>(e), load);
  }
}

}  // namespace

CaseLoad expect_load(const TuneCase& of, const TuneConfig& config) {
  const Tile tile = tile_of(of, config);
  const auto tokens = static_cast<double>(of.tokens);
  const auto world = static_cast<double>(of.parallel.world_size());
  const std::int64_t local = most_local_experts(of);
  const double share = static_cast<double>(local) / static_cast<double>(of.desc.num_experts);
  const double copies = static_cast<double>(of.desc.topk) * share;  // of a token, on a rank
  const double needed = 1 - miss_probability(of.desc.num_experts, local, of.desc.topk);
  const double deviations = largest_of(of.parallel.ep);
  const double foreign = tokens - tokens / world;
  CaseLoad load;
  load.rows = tokens * copies + deviations * std::sqrt(tokens * copies * (1 - share));
  load.tokens_in = foreign * needed + deviations * std::sqrt(foreign * needed * (1 - needed));
  load.rows_per_token = copies / needed;
  load.own_tokens = std::ceil(tokens / world);
  if (of.backend == Backend::cuda) {
    expect_tiles(tile, local, load);
  } else {
    // Half a step per expert is empty on average.
    load.row_tiles = (load.rows + static_cast<double>(local * tile.row_step) / 2) /
                     static_cast<double>(tile.rows);
  }
  add_products(of, tile, load);
  return load;
}

CaseLoad planned_load(const TuneCase& of, const PlanSummary& plan) {
  // A plan is made with a CPU's tiles unless it is told others; a GPU's are its own.
  const TuneConfig config{.block_m = of.backend == Backend::cuda ? 0 : plan.block_m};
  const Tile tile = tile_of(of, config);
  CaseLoad load = expect_load(of, config);
  load.rows = load.row_tiles = load.own_tokens = 0;
  for (const RankPlan& rank : plan.ranks) {
    CaseLoad of_rank;
    for (std::size_t e = 0; e < rank.rows_per_expert.size(); ++e) {
      add_tiles(tile, rank.rows_per_expert[e], static_cast<std::int32_t>(e), of_rank);
    }
    if (of_rank.row_tiles > load.row_tiles) {
      load.row_tiles = of_rank.row_tiles;
      load.tiles = std::move(of_rank.tiles);
    }
    load.rows = std::max(load.rows, static_cast<double>(rank.rows));
    load.own_tokens = std::max(load.own_tokens, static_cast<double>(rank.tokens));
  }
  const double row_bytes =
      static_cast<double>(of.desc.hidden) * static_cast<double>(size_of(of.desc.dtype));
  load.tokens_in = static_cast<double>(plan.busiest_bytes) / row_bytes;
  add_products(of, tile, load);
  return load;
}

}  // namespace comet
