// SPDX-License-Identifier: Apache-2.0
// Predicts how long a call takes from a machine's constants. Nothing is run.
#pragma once

#include "comet/layer.hpp"
#include "tune/case_load.hpp"
#include "tune/machine_model.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// In microseconds; the names mean what docs/benchmarks.md says.
struct Prediction {
  double t_layer_us = 0;
  double t_compute_us = 0;  ///< Of sequential's products alone.
  double t_link_us = 0;     ///< Of both stages; 0 where ranks share memory and no link is between.
  double t_plan_us = 0;
  double t_publish_us = 0;
};

/// Schedules sequential and comet. `load` must be of the same case and tile. Throws
/// Error(invalid_argument) for another schedule, a paced link without a rate, or a case whose
/// backend is not the machine's.
Prediction predict(const MachineModel& machine, const TuneCase& of, const CaseLoad& load,
                   Schedule schedule, const TuneConfig& config);

/// The same, for uniform routing.
Prediction predict(const MachineModel& machine, const TuneCase& of, Schedule schedule,
                   const TuneConfig& config);

}  // namespace comet
