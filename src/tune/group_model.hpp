// SPDX-License-Identifier: Apache-2.0
// How long comet takes with G groups: one computing server and one link per rank, both busy
// whenever they have something to do.
//
// The link first pulls the groups in order, then sends panels as they get ready. Computation goes
// A0 B0 A1 B1 ... (A the first GEMM, B the second). A is cut into as many slices as an expert has
// tiles in a group, on GPUs as a group has bands of tiles (layout/band_walk.hpp); a slice waits for
// its part of the group's rows, of which the rank's own are there at once. So G = 1 costs what two
// stages cost, more groups let the link work through both, and each group pays for its half-empty
// last tiles.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layout/panels.hpp"
#include "tune/stage_pair.hpp"

namespace comet {

/// What the model knows of a case.
struct GroupModel {
  StagePair compute;  ///< Of the two GEMMs with G = 1, in microseconds.
  StagePair link;     ///< Of dispatch and combine.
  std::int64_t world = 1;
  Panels panels = {1, 1, 1};
  /// Rows of a token on a rank, where groups are phases of the rank's tiles (GPUs): a token can be
  /// pushed once the last of its rows is computed, so phase g of G completes (g / G)^rows of all.
  /// 1 where groups are ranges of tokens.
  double rows_per_token = 1;
};

/// One choice of G with what it does to the tiles.
struct GroupCandidate {
  std::int64_t groups = 1;
  double tiles_per_expert = 1;  ///< In one group, of experts that have rows; on GPUs its bands.
  double padding = 1;           ///< Row slots of all tiles over those with G = 1.
};

/// Predicted time of a call in microseconds, without copies, plan and signals.
double predict_us(const GroupModel& model, const GroupCandidate& candidate);

/// Candidates' groups, best prediction first; a further group must gain a little to come first.
std::vector<std::int64_t> rank_groups(const GroupModel& model,
                                      std::span<const GroupCandidate> candidates);

}  // namespace comet
