// SPDX-License-Identifier: Apache-2.0
// Calibration: finds a machine's constants from measured calls.
#pragma once

#include <span>
#include <vector>

#include "tune/machine_model.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// One call as it was measured.
struct MeasuredCase {
  TuneCase of;
  Schedule schedule = Schedule::comet;
  TuneConfig config;
  double t_layer_us = 0;
  double t_compute_us = 0;  ///< 0 if unknown; sequential only.
};

/// |prediction / measurement - 1| of t_layer_us, one for each case, in their order.
std::vector<double> prediction_errors(const MachineModel& machine,
                                      std::span<const MeasuredCase> cases);

/// `start` with the constants that predict the cases best: the mean of |log(prediction /
/// measurement)| of layers and computations, with a slight pull towards `start`, so that what the
/// cases do not tell stays as it was. Deterministic; some hundred cases take about a second. Throws
/// Error(invalid_argument) if there is no case that predict() knows.
MachineModel fit_machine(const MachineModel& start, std::span<const MeasuredCase> cases);

}  // namespace comet
