// SPDX-License-Identifier: Apache-2.0
// What is worth trying for a case.
#pragma once

#include <cstdint>
#include <vector>

#include "tune/machine_model.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// Numbers of communication workers worth trying. cpu: none (all do both), one, and half. cuda:
/// multiprocessors, 1, 2, 4 and 8 where that is fewer than half of the rank's.
std::vector<int> worker_splits(Backend backend, int num_workers);

/// Everything that comet can be asked for in a case: groups, panels, transfers, who communicates
/// and where. Panels of an eighth of H, as the paper's code, come first.
std::vector<TuneConfig> comet_configs(const TuneCase& of);

/// A choice with the time that the model gives it, in microseconds.
struct RankedConfig {
  TuneConfig config;
  double predicted_us = 0;
};

/// All of `configs`, best prediction first; equal ones in their order.
std::vector<RankedConfig> rank_configs(const MachineModel& machine, const TuneCase& of,
                                       const std::vector<TuneConfig>& configs);

}  // namespace comet
