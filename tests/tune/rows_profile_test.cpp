// SPDX-License-Identifier: Apache-2.0
#include "tune/rows_profile.hpp"

#include <gtest/gtest.h>

#include "io/expect_error.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

BenchRecord record(std::int64_t tokens, Schedule schedule, std::int64_t groups, double time) {
  BenchRecord row;
  row.measured = {.of = shared_gpu_case(tokens),
                  .schedule = schedule,
                  .config = {.groups = groups},
                  .t_layer_us = time};
  row.device = "GPU";
  return row;
}

TEST(RowsProfile, KeepsTheTwoFastestChoicesOfEachCase) {
  const std::vector<BenchRecord> rows = {
      record(8192, Schedule::comet, 1, 10),     record(8192, Schedule::comet, 2, 8),
      record(8192, Schedule::sequential, 1, 1), record(8192, Schedule::comet, 2, 7),
      record(8192, Schedule::comet, 4, 9),      record(64, Schedule::comet, 8, 3)};
  const Profile profile = profile_of_rows(rows);
  EXPECT_EQ(profile.origin.device, "GPU");
  ASSERT_EQ(profile.rows.size(), 2U);
  EXPECT_EQ(profile.rows[0].best.config.groups, 2);
  EXPECT_EQ(profile.rows[0].best.t_layer_us, 7);
  ASSERT_TRUE(profile.rows[0].runner_up);
  EXPECT_EQ(profile.rows[0].runner_up->config.groups, 4);
  EXPECT_FALSE(profile.rows[1].runner_up);
}

TEST(RowsProfile, HoldsOutAllButTheFewestTokens) {
  const std::vector<BenchRecord> rows = {
      record(8192, Schedule::comet, 1, 10), record(64, Schedule::comet, 1, 1),
      record(64, Schedule::sequential, 1, 2), record(32, Schedule::pipelined, 1, 2)};
  const RowSplit split = split_rows(rows);
  EXPECT_EQ(split.calibration.size(), 2U);
  EXPECT_EQ(split.held_out.size(), 1U);
}

TEST(RowsProfile, WavesAreForProfilesAndNothingThatTheModelKnows) {
  std::vector<BenchRecord> rows = {record(64, Schedule::comet, 1, 9),
                                   record(64, Schedule::comet, 1, 5)};
  rows[1].measured.config.waves = 4;
  const Profile profile = profile_of_rows(rows);
  EXPECT_EQ(profile.rows.at(0).best.config.waves, 4);
  EXPECT_EQ(profile.rows.at(0).runner_up->config.waves, 0);
  const RowSplit split = split_rows(rows);
  ASSERT_EQ(split.calibration.size(), 1U);
  EXPECT_EQ(split.calibration[0].t_layer_us, 9);
  EXPECT_TRUE(split.held_out.empty());
}

TEST(RowsProfile, CalibratesByAQuarterOfTheRowsAtLeast) {
  std::vector<BenchRecord> rows = {record(32, Schedule::comet, 1, 1),
                                   record(64, Schedule::comet, 1, 2),
                                   record(64, Schedule::comet, 2, 3)};
  for (int i = 0; i < 5; ++i) rows.push_back(record(128, Schedule::comet, 1, 4));
  const RowSplit split = split_rows(rows);
  EXPECT_EQ(split.calibration.size(), 3U);
  EXPECT_EQ(split.held_out.size(), 5U);
}

TEST(RowsProfile, RefusesRowsOfSeveralDevicesAndNone) {
  std::vector<BenchRecord> rows = {record(1, Schedule::comet, 1, 1),
                                   record(2, Schedule::comet, 1, 1)};
  rows[1].device = "other GPU";
  expect_error(ErrorCode::mismatch, "other GPU", [&] { profile_of_rows(rows); });
  expect_error(ErrorCode::invalid_argument, "no layer", [] { profile_of_rows({}); });
}

}  // namespace
}  // namespace comet
