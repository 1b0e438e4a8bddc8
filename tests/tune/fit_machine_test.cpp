// SPDX-License-Identifier: Apache-2.0
#include "tune/fit_machine.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/expect_error.hpp"
#include "tune/predict.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

// Calls as a machine would take that predicts itself exactly.
std::vector<MeasuredCase> calls_of(const MachineModel& machine) {
  std::vector<MeasuredCase> cases;
  for (const std::int64_t tokens : {2048, 8192, 32768}) {
    for (const char* link : {"native", "paced:20"}) {
      for (const Schedule schedule : {Schedule::sequential, Schedule::comet}) {
        MeasuredCase one{.of = shared_gpu_case(tokens, link), .schedule = schedule, .config = {}};
        one.config.n_c_dispatch = one.config.n_c_combine = 16;
        const Prediction prediction = predict(machine, one.of, schedule, one.config);
        one.t_layer_us = prediction.t_layer_us;
        if (schedule == Schedule::sequential) one.t_compute_us = prediction.t_compute_us;
        cases.push_back(one);
      }
    }
  }
  return cases;
}

double worst(const MachineModel& machine, const std::vector<MeasuredCase>& cases) {
  const std::vector<double> errors = prediction_errors(machine, cases);
  return *std::max_element(errors.begin(), errors.end());
}

TEST(FitMachine, FindsAMachineTwiceAsFastAsItsStart) {
  const MachineModel& start = find_machine("h100");
  MachineModel truth = start;
  truth.rates.worker_tflops *= 2;
  truth.rates.overlap_tflops *= 2;
  truth.rates.plan_us /= 3;
  const std::vector<MeasuredCase> cases = calls_of(truth);
  EXPECT_GT(worst(start, cases), 0.5);
  const MachineModel fitted = fit_machine(start, cases);
  EXPECT_LT(worst(fitted, cases), 0.03);
  // Not closer: some of a product's time may as well be its reads'.
  EXPECT_NEAR(fitted.rates.worker_tflops / truth.rates.worker_tflops, 1, 0.2);
}

TEST(FitMachine, WhatIsRightAlreadyStays) {
  const MachineModel& start = find_machine("h200");
  const MachineModel fitted = fit_machine(start, calls_of(start));
  for (const MachineRate& rate : machine_rates()) {
    EXPECT_EQ(fitted.rates.*rate.value, start.rates.*rate.value) << rate.name;
  }
}

TEST(FitMachine, RefusesToFitNothing) {
  expect_error(ErrorCode::invalid_argument, "at least one",
               [] { fit_machine(find_machine("h100"), {}); });
}

}  // namespace
}  // namespace comet
