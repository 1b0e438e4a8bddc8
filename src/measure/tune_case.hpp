// SPDX-License-Identifier: Apache-2.0
// Tunes one case: tries choices of comet, best prediction first, and times the best two beside
// sequential.
#pragma once

#include <string>
#include <vector>

#include "measure/bench_case.hpp"
#include "tune/fit_machine.hpp"
#include "tune/profile.hpp"

namespace comet {

/// The case as a profile names it before it has run. `device_workers` and `devices` say what the
/// machine has: multiprocessors of a GPU and GPUs; they are not read on cpu. Throws
/// Error(invalid_argument) for a link that finds its rate itself, and for experts that are not
/// routed uniformly: neither is a key of a profile.
TuneCase tune_case_of(const BenchCase& bench, int device_workers, int devices);

/// What tuning one case found.
struct TunedCase {
  ProfileRow row;
  double sequential_us = 0;
  double predicted_us = 0;  ///< Of row.best, by the machine that ranked the choices.
  std::int64_t checked_tokens = 0;
  /// sequential and all choices that were timed in rounds, as calibration wants them.
  std::vector<MeasuredCase> measured;
};

/// Runs the choices `configs` of `bench`, which should be sorted by what they promise: once the
/// half of bench.soft_limit_seconds is over the rest is not tried. Every call is verified as a
/// benchmark's. bench.schedules and comet_options are not read; of more than two bench.finalists
/// the further ones are in `measured` alone.
TunedCase run_tune_case(const BenchCase& bench, const MachineModel& machine,
                        const std::vector<TuneConfig>& configs, const ProgressSink& progress = {});

/// The choices that calibration times: one and four groups, and on cuda by both placements.
std::vector<TuneConfig> calibration_configs(const TuneCase& of);

}  // namespace comet
