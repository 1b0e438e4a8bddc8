// SPDX-License-Identifier: Apache-2.0
// What `comet plan` prints: the question, and the plan of all ranks or of one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/plan_predict.hpp"
#include "comet/plan.hpp"
#include "comet/router.hpp"

namespace comet::cli {

struct PlanReport {
  const PlanQuery& query;
  PlanSummary summary;
  std::string model;  ///< Empty if the shape was given by numbers alone.
  std::string routing;
  std::int64_t tokens = 0;  ///< Of all ranks.
  std::uint64_t seed = 0;
  std::int64_t rank = -1;  ///< Only this one, in detail; -1 is all.
  std::optional<PredictReport> prediction = {};
};

/// Throws Error(out_of_range) unless `rank` is -1 or one of `ranks`.
void check_plan_rank(std::int64_t rank, std::int64_t ranks);

std::string plan_text(const PlanReport& report);
/// PlanSummary::to_json with a "query" object in front; with a rank, the summary's other ranks are
/// left out.
std::string plan_json(const PlanReport& report);

}  // namespace comet::cli
