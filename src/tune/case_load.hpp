// SPDX-License-Identifier: Apache-2.0
// CaseLoad: the work of the busiest rank of a case, in tiles, rows and tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/plan.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// Products come in items: a tile of rows times a tile of columns, summed over K.
struct ProductLoad {
  double items = 0;      ///< Of the busiest rank, tails counted as they are computed.
  double item_gmac = 0;  ///< Multiply-adds of an item in 10^9, tails counted whole.
};

/// Columns of a GPU's tile as they are multiplied; panels are multiples of it.
inline constexpr std::int64_t kDeviceTileColumns = 256;

/// A row tile of a GPU's rank.
struct RowTile {
  double part = 1;          ///< Of block_m rows, what is multiplied: a half or all.
  std::int32_t expert = 0;  ///< Local.
};

/// Counts are means for random routing, plus what the busiest of the ranks has above them.
struct CaseLoad {
  double rows = 0;            ///< Token copies that the rank computes.
  double row_tiles = 0;       ///< Of block_m rows each.
  double tokens_in = 0;       ///< Pulled from other ranks; as many partial sums go back.
  double rows_per_token = 1;  ///< Of a token that the rank needs at all.
  double own_tokens = 0;      ///< That the rank is home of.
  ProductLoad first;
  ProductLoad second;
  std::vector<RowTile> tiles;  ///< As a GPU walks them, expert by expert; not read on cpu.
};

/// What uniform routing brings. `config` says the tile; 0 chooses as a layer does.
CaseLoad expect_load(const TuneCase& of, const TuneConfig& config);

/// What the routing brings that was planned; on cpu the plan's block_m counts.
CaseLoad planned_load(const TuneCase& of, const PlanSummary& plan);

}  // namespace comet
