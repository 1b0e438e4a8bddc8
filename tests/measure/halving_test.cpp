// SPDX-License-Identifier: Apache-2.0
#include "measure/halving.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

namespace comet {
namespace {

TEST(Halving, TheBetterAreTriedMoreOften) {
  std::vector<int> trials(16, 0);
  const auto best = successive_halving(16, 2, [&](std::size_t i) {
    ++trials[i];
    return std::optional<double>(100 + std::abs(static_cast<int>(i) - 11));
  });
  ASSERT_EQ(best.size(), 2U);
  EXPECT_EQ(best[0], 11U);
  EXPECT_EQ(trials[11], 4);
  EXPECT_EQ(trials[0], 1);
  EXPECT_EQ(std::accumulate(trials.begin(), trials.end(), 0), 16 + 8 + 4 + 2);
  EXPECT_EQ(halving_trials(16, 2), 30U);
}

// A candidate that was disturbed once comes back by its better trial.
TEST(Halving, CountsTheFastestTrial) {
  int calls = 0;
  const auto best = successive_halving(3, 1, [&](std::size_t i) -> std::optional<double> {
    ++calls;
    if (i == 1) return calls <= 3 ? 9.5 : 5;
    return 10 - static_cast<double>(i);
  });
  EXPECT_EQ(best, (std::vector<std::size_t>{1}));
}

TEST(Halving, EachOfTheKeptIsTriedTwice) {
  std::vector<int> trials(2, 0);
  successive_halving(2, 2, [&](std::size_t i) {
    ++trials[i];
    return std::optional<double>(1);
  });
  EXPECT_EQ(trials, (std::vector<int>{2, 2}));
}

TEST(Halving, StopsWhenTheTimeIsOver) {
  int calls = 0;
  const auto limited = [&](int limit) {
    return [&calls, limit](std::size_t i) -> std::optional<double> {
      if (calls == limit) return std::nullopt;
      ++calls;
      return 10 - static_cast<double>(i);
    };
  };
  EXPECT_EQ(successive_halving(8, 2, limited(3)), (std::vector<std::size_t>{2, 1}));
  EXPECT_EQ(calls, 3);
  calls = 0;
  EXPECT_TRUE(successive_halving(8, 2, limited(0)).empty());
  EXPECT_TRUE(successive_halving(0, 2, limited(5)).empty());
}

}  // namespace
}  // namespace comet
