// SPDX-License-Identifier: Apache-2.0
// What `comet plan --predict` adds: how long the planned call would take on a machine.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "comet/plan.hpp"
#include "tune/candidates.hpp"
#include "tune/predict.hpp"

namespace comet::cli {

struct PredictFlags {
  bool wanted = false;
  std::string machine;  ///< Empty: h100, or the profile's.
  std::string profile;  ///< A file; empty is none.
  LinkSpec link;
  std::int64_t ranks_per_device = 1;
  std::int64_t workers = 0;  ///< Of a rank; 0: its share of the machine's.
};
void add_predict_flags(CLI::App& app, PredictFlags& flags);

/// A schedule with its predicted time.
struct PredictedSchedule {
  Schedule schedule = Schedule::sequential;
  TuneConfig config;
  Prediction prediction;
};

struct PredictReport {
  MachineModel machine;
  TuneCase of;
  std::vector<PredictedSchedule> schedules;  ///< sequential, then comet's best choice, best first.
};

/// For the busiest rank of `plan`. Throws Error(invalid_argument), and what reading the profile
/// throws.
PredictReport predict_plan(const PredictFlags& flags, const PlanQuery& query,
                           const PlanSummary& plan, std::int64_t tokens);

std::string predict_text(const PredictReport& report);
nlohmann::ordered_json predict_json(const PredictReport& report);

}  // namespace comet::cli
