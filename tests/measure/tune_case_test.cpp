// SPDX-License-Identifier: Apache-2.0
// One case tuned on a tiny layer. Times are anything, so only what holds for all of them is
// asserted.
#include "measure/tune_case.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/expect_error.hpp"
#include "measure/small_bench.hpp"
#include "tune/candidates.hpp"

namespace comet {
namespace {

TEST(TuneCase, NamesTheCaseAsItsRunWill) {
  BenchCase bench = small_bench();
  bench.link = parse_link("paced:0.5");
  const TuneCase named = tune_case_of(bench, 0, 0);
  const TunedCase tuned =
      run_tune_case(bench, find_machine("cpu"), {TuneConfig{}, TuneConfig{.groups = 2}});
  EXPECT_TRUE(is_same_but_tokens(named, tuned.row.of));
  EXPECT_EQ(named.tokens, tuned.row.of.tokens);
}

TEST(TuneCase, FindsTheFasterOfItsChoicesAndMeasuresBoth) {
  const BenchCase bench = small_bench();
  const std::vector<TuneConfig> configs = {TuneConfig{.groups = 2}, TuneConfig{.groups = 3},
                                           TuneConfig{.groups = 5}};
  const TunedCase tuned = run_tune_case(bench, find_machine("cpu"), configs);
  const auto is_one = [&](const TuneConfig& config) {
    return std::any_of(configs.begin(), configs.end(),
                       [&](const TuneConfig& one) { return one.groups == config.groups; });
  };
  EXPECT_TRUE(is_one(tuned.row.best.config));
  ASSERT_TRUE(tuned.row.runner_up);
  EXPECT_TRUE(is_one(tuned.row.runner_up->config));
  EXPECT_NE(tuned.row.best.config.groups, tuned.row.runner_up->config.groups);
  EXPECT_LE(tuned.row.best.t_layer_us, tuned.row.runner_up->t_layer_us);
  EXPECT_GT(tuned.row.best.config.block_m, 0);
  EXPECT_EQ(tuned.checked_tokens, 150);
  EXPECT_GT(tuned.predicted_us, 0);
  EXPECT_FALSE(tuned.row.date.empty());
  ASSERT_EQ(tuned.measured.size(), 3U);
  EXPECT_EQ(tuned.measured[0].schedule, Schedule::sequential);
  EXPECT_GT(tuned.measured[0].t_compute_us, 0);
}

// However short the time, two choices are compared; with enough of it the last of many is tried.
TEST(TuneCase, KeepsToItsTime) {
  BenchCase bench = small_bench();
  int calls = 0;
  const auto count = [&](const BenchProgress& progress) { calls += progress.phase == "tuning"; };
  const std::vector<TuneConfig> many(200, TuneConfig{.groups = 2});
  bench.soft_limit_seconds = 1e-9;
  EXPECT_TRUE(run_tune_case(bench, find_machine("cpu"), many, count).row.runner_up);
  EXPECT_LT(calls, 10);
  calls = 0;
  bench.soft_limit_seconds = 1000;
  run_tune_case(bench, find_machine("cpu"), many, count);
  EXPECT_GE(calls, 398);
}

TEST(TuneCase, RanksThatShareAGpuHaveTheirPartOfIt) {
  BenchCase bench = small_bench();
  bench.backend = Backend::cuda;
  bench.parallel = {.ep = 8, .tp = 1};
  EXPECT_EQ(tune_case_of(bench, 132, 1).workers, 16);
  EXPECT_EQ(tune_case_of(bench, 132, 1).ranks_per_device, 8);
  EXPECT_EQ(tune_case_of(bench, 132, 4).workers, 64);
  EXPECT_EQ(tune_case_of(bench, 132, 8).workers, 132);
}

TEST(TuneCase, RefusesWhatNoProfileHolds) {
  BenchCase bench = small_bench();
  bench.link = parse_link("paced:auto");
  expect_error(ErrorCode::invalid_argument, "needs the rate", [&] { tune_case_of(bench, 1, 1); });
  bench.link = {};
  bench.routing = parse_synthetic_routing("hot");
  bench.routing_text = "hot";
  expect_error(ErrorCode::invalid_argument, "routing hot", [&] { tune_case_of(bench, 1, 1); });
}

TEST(TuneCase, CalibrationTimesBothPlacementsOnGpus) {
  BenchCase bench = small_bench();
  EXPECT_EQ(calibration_configs(tune_case_of(bench, 0, 0)).size(), 2U);
  bench.backend = Backend::cuda;
  const auto configs = calibration_configs(tune_case_of(bench, 132, 1));
  ASSERT_EQ(configs.size(), 4U);
  EXPECT_EQ(configs[0].placement, Placement::warps);
  EXPECT_EQ(configs[3].placement, Placement::blocks);
  EXPECT_EQ(configs[3].groups, 4);
}

TEST(TuneCase, MeasuresAsManyChoicesAsAreAskedFor) {
  BenchCase bench = small_bench();
  bench.finalists = 3;
  const std::vector<TuneConfig> configs = {{.groups = 1}, {.groups = 2}, {.groups = 3}};
  int trials = 0;
  const TunedCase tuned = run_tune_case(
      bench, find_machine("cpu"), configs,
      [&](const BenchProgress& progress) { trials += progress.phase == "tuning" ? 1 : 0; });
  EXPECT_EQ(tuned.measured.size(), 4U);
  EXPECT_LE(trials, 4) << "only sequential's panels are tried";
}

}  // namespace
}  // namespace comet
