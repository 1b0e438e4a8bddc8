// SPDX-License-Identifier: Apache-2.0
// The formulas behind the figures, against values worked out by hand.
#include "measure/figures.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "comet/error.hpp"

namespace comet {
namespace {

TEST(Figures, MedianOfOddAndEvenCounts) {
  EXPECT_EQ(median(std::vector{5.0, 1.0, 3.0}), 3.0);
  EXPECT_EQ(median(std::vector{4.0, 1.0, 3.0, 2.0}), 2.5);
  EXPECT_EQ(median(std::vector{7.0}), 7.0);
  EXPECT_THROW(median({}), Error);
}

TEST(Figures, SpreadIsLargestMinusSmallest) {
  EXPECT_EQ(spread(std::vector{5.0, 1.0, 3.0}), 4.0);
  EXPECT_EQ(spread(std::vector{2.0}), 0.0);
  EXPECT_THROW(spread({}), Error);
}

TEST(Figures, BytesOfTheBusiestClockAndOfAllLinks) {
  std::vector<CallStats> ranks(3);
  ranks[0].dispatch_bytes_in = 10;
  ranks[0].dispatch_bytes_out = 70;
  ranks[1].dispatch_bytes_in = 60;
  ranks[1].dispatch_bytes_out = 0;
  ranks[2].combine_bytes_in = 5;
  ranks[2].combine_bytes_out = 40;
  ranks[0].combine_bytes_in = 35;
  const LinkBytes bytes = link_bytes(ranks);
  EXPECT_EQ(bytes.dispatch_busiest, 70);
  EXPECT_EQ(bytes.combine_busiest, 40);
  EXPECT_EQ(bytes.total, 10 + 60 + 5 + 35);
}

TEST(Figures, PacedLinkTimeIsBytesOverRate) {
  // 1 GB/s moves 1000 bytes in a microsecond.
  const StagePair link =
      paced_link_time({.dispatch_busiest = 3'000'000, .combine_busiest = 500'000}, 2.0);
  EXPECT_DOUBLE_EQ(link.first, 1500.0);
  EXPECT_DOUBLE_EQ(link.second, 250.0);
  EXPECT_DOUBLE_EQ(link.sum(), 1750.0);
  EXPECT_THROW(paced_link_time({}, 0), Error);
}

TEST(Figures, AutoRateMakesTheLinkTakeTheAskedRatio) {
  const LinkBytes bytes{.dispatch_busiest = 4'000'000, .combine_busiest = 2'000'000};
  const double rate = auto_rate(bytes, 10'000.0, 0.6);
  EXPECT_DOUBLE_EQ(rate, 1.0);
  EXPECT_DOUBLE_EQ(paced_link_time(bytes, rate).sum(), 6'000.0);
  EXPECT_EQ(auto_rate({}, 10'000.0, 0.6), 0.0);
  EXPECT_THROW(auto_rate(bytes, 0, 0.6), Error);
  EXPECT_THROW(auto_rate(bytes, 10'000.0, 0), Error);
}

TEST(Figures, ComputeIsSplitByMultiplications) {
  EXPECT_DOUBLE_EQ(split_compute(90, true).first, 60);
  EXPECT_DOUBLE_EQ(split_compute(90, true).second, 30);
  EXPECT_DOUBLE_EQ(split_compute(90, false).first, 45);
  EXPECT_DOUBLE_EQ(split_compute(90, false).second, 45);
}

// The design's example: t_compute = 1 with SwiGLU, equal traffic in both stages.
TEST(Figures, StageBoundOfTheDesignsExample) {
  const StagePair compute = split_compute(1, true);
  EXPECT_DOUBLE_EQ(stage_bound(compute, {0.3, 0.3}), 1.0);
  EXPECT_NEAR(stage_bound(compute, {0.5, 0.5}), 1.17, 0.005);
}

TEST(Figures, HiddenShareAndEfficiency) {
  EXPECT_DOUBLE_EQ(hidden_share(160, 100, 60), 0.0);  // nothing hidden
  EXPECT_DOUBLE_EQ(hidden_share(100, 100, 60), 1.0);  // all of it
  EXPECT_DOUBLE_EQ(hidden_share(106, 100, 60), 0.9);
  EXPECT_DOUBLE_EQ(efficiency(125, 100, 60), 0.8);
  EXPECT_DOUBLE_EQ(efficiency(125, 60, 100), 0.8);
}

}  // namespace
}  // namespace comet
