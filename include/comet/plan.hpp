// SPDX-License-Identifier: Apache-2.0
// What a call would do, without running it: rows, tiles, transfers and bytes, from ids alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comet/desc.hpp"
#include "comet/routing.hpp"

namespace comet {

/// What summarize_plan is asked.
struct PlanQuery {
  MoeDesc desc;                      ///< max_tokens is not used.
  ParallelDesc parallel;             ///< World size W = ep * tp.
  std::vector<RoutingView> routing;  ///< [W] every rank's tokens; weights may be null.
  std::int64_t groups = 1;           ///< G of Schedule::comet.
  std::int64_t block_m = 0;          ///< Rows of a tile; 0 chooses as MoeLayer does.
};

/// Tiles of one group of one rank that become ready together: those whose last rows come from
/// `source`.
struct ReadinessStep {
  std::int64_t group = 0;   ///< 0 to groups - 1.
  std::int64_t step = 0;    ///< 0 is the rank itself, then the ranks after it.
  std::int64_t source = 0;  ///< The rank that the last rows come from.
  std::int64_t tiles = 0;   ///< How many.
  std::int64_t rows = 0;    ///< Arrivals that these tiles wait for, in all.
};

/// One rank's part.
struct RankPlan {
  std::int64_t tokens = 0;                    ///< Own tokens.
  std::vector<std::int64_t> expert_ids;       ///< Global ids of the rank's experts.
  std::vector<std::int64_t> rows_per_expert;  ///< Token copies per local expert.
  std::int64_t rows = 0;                      ///< Their sum.
  std::int64_t tiles = 0;                     ///< Row tiles, over all groups.
  std::int64_t padded_rows = 0;               ///< tiles * block_m: what max_rows must allow.
  std::vector<std::int64_t> tile_rows;        ///< [tiles] expected arrivals, in walk order.
  std::vector<ReadinessStep> steps;           ///< By (group, step), without empty ones.
};

/// The plan of all ranks.
struct PlanSummary {
  std::int64_t world = 0;            ///< W.
  std::int64_t groups = 0;           ///< G.
  std::int64_t block_m = 0;          ///< Rows of a tile, as chosen.
  std::vector<RankPlan> ranks = {};  ///< [world]
  /// [world, world] payload bytes of dispatch from rank i to rank j at i * world + j, each needed
  /// token once; zero on the diagonal. Combine moves the same bytes the other way.
  std::vector<std::int64_t> dispatch_bytes = {};
  /// Bytes of the busiest direction of any rank: dispatch and combine take at least this over the
  /// rate.
  std::int64_t busiest_bytes = 0;
  /// What a transfer per row, without deduplication, would move in dispatch.
  std::int64_t row_bytes_without_dedup = 0;

  /// Readable tables, each line ends with a newline.
  std::string to_text() const;
  /// One JSON object with the fields above by their names.
  std::string to_json() const;
};

/// Throws Error(invalid_argument or out_of_range) on sizes or ids that a layer would refuse.
PlanSummary summarize_plan(const PlanQuery& query);

}  // namespace comet
