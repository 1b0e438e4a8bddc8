// SPDX-License-Identifier: Apache-2.0
// What the tuning pass tries, and that both schedules get the same chances.
#include "measure/tune_candidates.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <utility>

namespace comet {
namespace {

const std::vector<std::int64_t> kGroups = {1, 2, 4};
const BenchCase kPlain;

std::vector<ForwardOptions> of(const BenchCase& bench, Schedule schedule, int workers) {
  return tune_candidates(bench, schedule,
                         {.num_workers = workers, .panels = {64}, .groups = kGroups});
}

TEST(TuneCandidates, SequentialHasNothingToChoose) {
  const auto candidates = of(kPlain, Schedule::sequential, 4);
  ASSERT_EQ(candidates.size(), 1U);
  EXPECT_EQ(candidates[0].schedule, Schedule::sequential);
  EXPECT_EQ(candidates[0].panel, 64);
}

TEST(TuneCandidates, PipelinedAndCometTryTheSameWorkerSplits) {
  std::set<int> pipelined, comet;
  for (const auto& options : of(kPlain, Schedule::pipelined, 4))
    pipelined.insert(options.n_c_dispatch);
  for (const auto& options : of(kPlain, Schedule::comet, 4)) comet.insert(options.n_c_dispatch);
  EXPECT_EQ(pipelined, (std::set<int>{0, 1, 2}));
  EXPECT_EQ(pipelined, comet);
}

TEST(TuneCandidates, EveryDegreeAndEveryGroupCountIsTried) {
  std::set<std::int64_t> degrees, groups;
  for (const auto& options : of(kPlain, Schedule::pipelined, 2)) degrees.insert(options.groups);
  for (const auto& options : of(kPlain, Schedule::comet, 2)) groups.insert(options.groups);
  EXPECT_EQ(degrees, (std::set<std::int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(groups, (std::set<std::int64_t>{1, 2, 4}));
}

TEST(TuneCandidates, PipelinedKeepsAWorkerThatComputes) {
  BenchCase bench;
  bench.n_c_dispatch = 5;
  bench.n_c_combine = 5;
  for (const auto& options : of(bench, Schedule::pipelined, 2)) {
    EXPECT_EQ(options.n_c_dispatch, 1);
    EXPECT_EQ(options.n_c_combine, 1);
  }
}

TEST(TuneCandidates, WhatIsGivenIsKept) {
  BenchCase bench;
  bench.n_c_dispatch = 0;
  bench.n_c_combine = 2;
  bench.chunk = 16;
  const auto candidates = of(bench, Schedule::comet, 4);
  ASSERT_EQ(candidates.size(), kGroups.size());
  for (const auto& options : candidates) {
    EXPECT_EQ(options.n_c_dispatch, 0);
    EXPECT_EQ(options.n_c_combine, 2);
    EXPECT_EQ(options.chunk, 16);
  }
}

TEST(TuneCandidates, OnGpusPipelinedReservesMultiprocessors) {
  BenchCase bench;
  bench.backend = Backend::cuda;
  std::set<std::pair<std::int64_t, int>> tried;
  for (const auto& options : of(bench, Schedule::pipelined, 16)) {
    EXPECT_EQ(options.n_c_combine, options.n_c_dispatch);
    EXPECT_TRUE(tried.emplace(options.groups, options.n_c_dispatch).second) << "tried twice";
  }
  // 8 is half of the rank's, and one chunk overlaps nothing whatever is reserved.
  EXPECT_EQ(tried,
            (std::set<std::pair<std::int64_t, int>>{
                {1, 1}, {2, 1}, {2, 2}, {2, 4}, {4, 1}, {4, 2}, {4, 4}, {8, 1}, {8, 2}, {8, 4}}));
  EXPECT_EQ(of(bench, Schedule::sequential, 16).size(), 1U);
  bench.n_c_dispatch = 0;
  for (const auto& options : of(bench, Schedule::pipelined, 16)) EXPECT_EQ(options.n_c_dispatch, 1);
}

TEST(TuneCandidates, EveryPanelIsTried) {
  std::set<std::int64_t> panels;
  for (const auto& options : tune_candidates(
           kPlain, Schedule::sequential, {.num_workers = 2, .panels = {64, 512}, .groups = {}})) {
    panels.insert(options.panel);
  }
  EXPECT_EQ(panels, (std::set<std::int64_t>{64, 512}));
}

TEST(TuneCandidates, OneWorkerDoesEverything) {
  for (const auto& options : of(kPlain, Schedule::comet, 1)) EXPECT_EQ(options.n_c_dispatch, 0);
}

TEST(TuneCandidates, OnGpusCometTriesWarpsOfAllAndBlocksOfTheirOwn) {
  BenchCase bench;
  bench.backend = Backend::cuda;
  const auto tried = [&](std::optional<Placement> placement) {
    bench.placement = placement;
    std::set<std::pair<Placement, int>> found;
    for (const auto& options : of(bench, Schedule::comet, 16)) {
      EXPECT_EQ(options.n_c_combine, options.n_c_dispatch);
      found.emplace(options.placement, options.n_c_dispatch);
    }
    return found;
  };
  using Set = std::set<std::pair<Placement, int>>;
  const Set warps{{Placement::warps, 16}};
  const Set blocks{{Placement::blocks, 1}, {Placement::blocks, 2}, {Placement::blocks, 4}};
  Set both = warps;
  both.insert(blocks.begin(), blocks.end());
  EXPECT_EQ(tried({}), both);
  EXPECT_EQ(tried(Placement::warps), warps);
  EXPECT_EQ(tried(Placement::blocks), blocks);
  bench.n_c_dispatch = bench.n_c_combine = 3;
  EXPECT_EQ(tried(Placement::blocks), (Set{{Placement::blocks, 3}}));
}

TEST(TuneCandidates, WavesAreOfCometAndAsTheyAreAskedFor) {
  BenchCase bench;
  bench.backend = Backend::cuda;
  for (const std::int64_t waves : {0, 4}) {
    bench.waves = waves;
    for (const auto& options : of(bench, Schedule::comet, 16)) EXPECT_EQ(options.waves, waves);
    for (const auto& options : of(bench, Schedule::pipelined, 16)) EXPECT_EQ(options.waves, 0);
  }
}

}  // namespace
}  // namespace comet
