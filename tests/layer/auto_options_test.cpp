// SPDX-License-Identifier: Apache-2.0
// What options that are left to choose get, and that it is the same on all ranks and costs nothing.
#include "layer/auto_options.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace comet {
namespace {

const MoeDesc kDesc{
    .num_experts = 8, .topk = 2, .hidden = 512, .intermediate = 704, .max_tokens = 2048};

bool is_same(const ForwardOptions& a, const ForwardOptions& b) {
  return to_config(a, 0, 0) == to_config(b, 0, 0);
}

void on_two_ranks(const LinkSpec& link, const std::function<void(World&)>& body) {
  run_local_world(2, {.link = link}, body);
}

TEST(AutoOptions, AreTheModelsChoiceWithoutAProfile) {
  on_two_ranks(parse_link("paced:0.05"), [](World& world) {
    AutoOptions automatic(kDesc, {.ep = 2, .tp = 1}, {.num_workers = 1}, world);
    const ForwardOptions chosen = automatic.resolve({});
    EXPECT_GT(chosen.groups, 1) << "so slow a link wants groups";
    EXPECT_GT(chosen.panel, 0);
    EXPECT_GE(chosen.n_c_dispatch, 0);
    EXPECT_NE(automatic.explain(0).find("PREDICTED"), std::string::npos);
  });
}

// Ranks may have other numbers of workers, and ask at other times.
TEST(AutoOptions, AreTheSameOnAllRanks) {
  std::vector<ForwardOptions> chosen(2);
  on_two_ranks(parse_link("paced:0.5"), [&](World& world) {
    AutoOptions automatic(kDesc, {.ep = 2, .tp = 1}, {.num_workers = 1 + 3 * world.rank()}, world);
    if (world.rank() == 1) automatic.resolve({.expected_tokens = 900});
    chosen[static_cast<std::size_t>(world.rank())] = automatic.resolve({.expected_tokens = 1000});
  });
  EXPECT_TRUE(is_same(chosen[0], chosen[1]));
}

TEST(AutoOptions, WhatIsLeftOpenIsFilledInAndNothingElse) {
  const TuneConfig config{.groups = 4,
                          .panel = 512,
                          .chunk = 16,
                          .n_c_dispatch = 2,
                          .n_c_combine = 1,
                          .placement = Placement::blocks,
                          .waves = 3};
  EXPECT_EQ(to_config(fill_in({}, config), 0, 0), config);
  EXPECT_EQ(to_options(config, Schedule::comet).waves, 3);
  const ForwardOptions given{.groups = 1, .panel = 96, .chunk = 8, .n_c_combine = 0, .waves = 2};
  EXPECT_TRUE(is_same(fill_in(given, config), given));
}

TEST(AutoOptions, WhatIsGivenStays) {
  on_two_ranks(parse_link("paced:0.05"), [](World& world) {
    AutoOptions automatic(kDesc, {.ep = 2, .tp = 1}, {.num_workers = 1}, world);
    const ForwardOptions one{.groups = 1};
    EXPECT_TRUE(is_same(automatic.resolve(one), one));
    const ForwardOptions some{.panel = 96, .n_c_combine = 1};
    const ForwardOptions chosen = automatic.resolve(some);
    EXPECT_GT(chosen.groups, 1);
    EXPECT_EQ(chosen.panel, 96);
    EXPECT_EQ(chosen.n_c_combine, 1);
    EXPECT_EQ(chosen.n_c_dispatch, -1);
    const ForwardOptions pipelined = automatic.resolve({.schedule = Schedule::pipelined});
    EXPECT_EQ(pipelined.groups, 1);
    EXPECT_EQ(pipelined.panel, 0);
  });
}

// A limit of rows holds for whole tiles, and each group has tails of its own.
TEST(AutoOptions, KeepToTheLimitsOfTheLayer) {
  on_two_ranks(parse_link("paced:0.05"), [](World& world) {
    AutoOptions tight(kDesc, {.ep = 2, .tp = 1}, {.num_workers = 1, .max_rows = 9000}, world);
    EXPECT_EQ(tight.resolve({}).groups, 1);
    AutoOptions few(kDesc, {.ep = 2, .tp = 1}, {.num_workers = 1, .max_groups = 2}, world);
    EXPECT_LE(few.resolve({}).groups, 2);
  });
}

TEST(AutoOptions, NoTokensAreNoTrouble) {
  on_two_ranks({}, [](World& world) {
    MoeDesc none = kDesc;
    none.max_tokens = 0;
    AutoOptions automatic(none, {.ep = 2, .tp = 1}, {}, world);
    EXPECT_GE(automatic.resolve({}).groups, 1);
    EXPECT_GE(automatic.resolve({.expected_tokens = 1'000'000}).groups, 1);
  });
}

TEST(AutoOptions, CostLessThanFiveMicrosecondsACall) {
  on_two_ranks({}, [](World& world) {
    AutoOptions automatic(kDesc, {.ep = 2, .tp = 1}, {.num_workers = 1}, world);
    std::vector<double> times;
    for (int i = 0; i < 101; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      for (int k = 0; k < 100; ++k) automatic.resolve({.expected_tokens = 1 + 37 * k});
      times.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
              .count() /
          100);
    }
    EXPECT_LT(*std::min_element(times.begin(), times.end()), 5.0);
  });
}

}  // namespace
}  // namespace comet
