// SPDX-License-Identifier: Apache-2.0
#include "tune/machine_model.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "io/expect_error.hpp"

namespace comet {
namespace {

TEST(MachineModel, RatesSurviveJson) {
  for (const MachineModel& machine : known_machines()) {
    const nlohmann::json json = rates_to_json(machine.rates);
    const MachineRates read = rates_from_json(json, "test", "here");
    for (const MachineRate& rate : machine_rates()) {
      EXPECT_EQ(read.*rate.value, machine.rates.*rate.value) << machine.name << " " << rate.name;
      EXPECT_GT(read.*rate.value, 0) << machine.name << " " << rate.name;
    }
  }
}

TEST(MachineModel, TheTableHasEveryRate) {
  EXPECT_EQ(machine_rates().size() * sizeof(double), sizeof(MachineRates));
}

TEST(MachineModel, RefusesRatesThatAreMissingUnknownOrZero) {
  nlohmann::json json = rates_to_json(find_machine("h100").rates);
  nlohmann::json missing = json;
  missing.erase("sum_gbs");
  expect_error(ErrorCode::format, "sum_gbs", [&] { rates_from_json(missing, "test", "here"); });
  nlohmann::json zero = json;
  zero["plan_us"] = 0;
  expect_error(ErrorCode::format, "plan_us", [&] { rates_from_json(zero, "test", "here"); });
  json["warp_speed"] = 9;
  expect_error(ErrorCode::format, "warp_speed", [&] { rates_from_json(json, "test", "here"); });
  expect_error(ErrorCode::format, "no object", [] { rates_from_json(3, "test", "here"); });
}

TEST(MachineModel, IsFoundByNameAndByDevice) {
  std::set<std::string> names;
  for (const MachineModel& machine : known_machines()) {
    EXPECT_TRUE(names.insert(machine.name).second) << machine.name;
    EXPECT_FALSE(machine.source.empty()) << machine.name;
    EXPECT_EQ(&find_machine(machine.name), &machine);
  }
  EXPECT_EQ(machine_of_device(Backend::cuda, "NVIDIA H200").name, "h200");
  EXPECT_EQ(machine_of_device(Backend::cuda, "NVIDIA X1").backend, Backend::cuda);
  EXPECT_EQ(machine_of_device(Backend::cpu, "any").name, "cpu");
  expect_error(ErrorCode::invalid_argument, "h100, h200", [] { find_machine("abacus"); });
}

// A slower link or memory never makes a published machine faster.
TEST(MachineModel, PublishedRatesScaleWithTheirSources) {
  EXPECT_LT(find_machine("l20").rates.worker_tflops, find_machine("h800").rates.worker_tflops);
  EXPECT_LT(find_machine("l20").rates.pull_gbs, 25.1);
  EXPECT_LT(find_machine("h800").rates.weight_gbs, find_machine("h200").rates.weight_gbs);
}

}  // namespace
}  // namespace comet
