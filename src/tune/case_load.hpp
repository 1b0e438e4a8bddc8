// SPDX-License-Identifier: Apache-2.0
// CaseLoad: the work of the busiest rank of a case, in tiles, rows and tokens.
#pragma once

#include <cstdint>

#include "comet/plan.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// Products come in items: a tile of rows times a tile of columns, summed over K.
struct ProductLoad {
  double items = 0;      ///< Of the busiest rank, tails counted as they are computed.
  double item_gmac = 0;  ///< Multiply-adds of an item in 10^9, tails counted whole.
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
};

/// What uniform routing brings. `config` says the tile; 0 chooses as a layer does.
CaseLoad expect_load(const TuneCase& of, const TuneConfig& config);

/// What the routing brings that was planned; on cpu the plan's block_m counts.
CaseLoad planned_load(const TuneCase& of, const PlanSummary& plan);

}  // namespace comet
