// SPDX-License-Identifier: Apache-2.0
#include "tune/fit_machine.hpp"

#include <cmath>

#include "base/check.hpp"
#include "tune/predict.hpp"

namespace comet {
namespace {

// A case with what does not change while constants are tried.
struct FitCase {
  const MeasuredCase* measured;
  CaseLoad load;
};

double log_error(double predicted, double measured) {
  return std::abs(std::log(predicted / measured));
}

// What is to be small. A constant that is off its start by a factor e costs 0.002: less than what
// any real evidence brings, more than noise does.
double badness(const MachineModel& machine, const MachineModel& start,
               std::span<const FitCase> cases) {
  constexpr double kPull = 0.002;
  double sum = 0;
  for (const FitCase& one : cases) {
    const MeasuredCase& measured = *one.measured;
    const Prediction predicted =
        predict(machine, measured.of, one.load, measured.schedule, measured.config);
    sum += log_error(predicted.t_layer_us, measured.t_layer_us);
    if (measured.t_compute_us > 0) sum += log_error(predicted.t_compute_us, measured.t_compute_us);
  }
  sum /= static_cast<double>(cases.size());
  for (const MachineRate& rate : machine_rates()) {
    const double moved = std::log(machine.rates.*rate.value / start.rates.*rate.value);
    sum += kPull * moved * moved;
  }
  return sum;
}

// Tries each constant a step up and down; true if any step helped.
bool improve(MachineModel& machine, const MachineModel& start, std::span<const FitCase> cases,
             double step, double& best) {
  constexpr double kLeast = 1e-6;
  bool has_improved = false;
  for (const MachineRate& rate : machine_rates()) {
    for (const double factor : {step, 1 / step}) {
      MachineModel candidate = machine;
      candidate.rates.*rate.value *= factor;
      const double value = badness(candidate, start, cases);
      if (value >= best - kLeast) continue;
      best = value;
      machine = candidate;
      has_improved = true;
      break;
    }
  }
  return has_improved;
}

}  // namespace

std::vector<double> prediction_errors(const MachineModel& machine,
                                      std::span<const MeasuredCase> cases) {
  std::vector<double> errors;
  for (const MeasuredCase& one : cases) {
    const Prediction predicted = predict(machine, one.of, one.schedule, one.config);
    errors.push_back(std::abs(predicted.t_layer_us / one.t_layer_us - 1));
  }
  return errors;
}

MachineModel fit_machine(const MachineModel& start, std::span<const MeasuredCase> cases) {
  constexpr double kFirstStep = 1.3;
  constexpr double kLastStep = 1.01;
  constexpr int kMostSweeps = 400;
  std::vector<FitCase> fitted;
  for (const MeasuredCase& one : cases) {
    const bool is_known = one.schedule == Schedule::sequential || one.schedule == Schedule::comet;
    if (is_known && one.t_layer_us > 0) fitted.push_back({&one, expect_load(one.of, one.config)});
  }
  check(!fitted.empty(), ErrorCode::invalid_argument,
        "[calibrate] {} measured cases, none of sequential or comet: at least one is needed",
        cases.size());
  MachineModel machine = start;
  double best = badness(machine, start, fitted);
  double step = kFirstStep;
  for (int sweep = 0; step > kLastStep && sweep < kMostSweeps; ++sweep) {
    if (!improve(machine, start, fitted, step, best)) step = std::sqrt(step);
  }
  return machine;
}

}  // namespace comet
