// SPDX-License-Identifier: Apache-2.0
// The model behind `--groups auto`: bounds that it must keep, and what it must choose.
#include "tune/group_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "comet/error.hpp"
#include "measure/figures.hpp"

namespace comet {
namespace {

GroupModel model_of(double ratio) {
  return {.compute = split_compute(1, true),
          .link = {ratio / 2, ratio / 2},
          .world = 4,
          .panels = {8, 1, 1}};
}

// Tiles as they are with many rows per expert: no padding to speak of.
std::vector<GroupCandidate> candidates(double padding_per_group) {
  std::vector<GroupCandidate> all;
  for (const std::int64_t groups : {1, 2, 4, 8}) {
    all.push_back({.groups = groups,
                   .tiles_per_expert = 16.0 / static_cast<double>(groups),
                   .padding = 1 + padding_per_group * static_cast<double>(groups - 1)});
  }
  return all;
}

TEST(GroupModel, WithoutALinkOnlyComputationIsLeft) {
  EXPECT_NEAR(predict_us(model_of(0), {.groups = 1}), 1.0, 1e-12);
  EXPECT_NEAR(predict_us(model_of(0), {.groups = 4, .tiles_per_expert = 2, .padding = 1.25}), 1.25,
              1e-12);
}

TEST(GroupModel, OneRankNeverWaits) {
  GroupModel alone = model_of(0);
  alone.world = 1;
  EXPECT_NEAR(predict_us(alone, {.groups = 1, .tiles_per_expert = 4}), 1.0, 1e-12);
}

TEST(GroupModel, NeverBelowThePhysicalBounds) {
  for (const double ratio : {0.1, 0.6, 1.0, 1.7, 3.0}) {
    for (const GroupCandidate& candidate : candidates(0)) {
      const double predicted = predict_us(model_of(ratio), candidate);
      EXPECT_GE(predicted + 1e-12, std::max(1.0, ratio)) << ratio << " " << candidate.groups;
      EXPECT_LE(predicted, 1.0 + ratio + 1e-12) << ratio << " " << candidate.groups;
    }
  }
}

// One group can do no better than its stages one after the other.
TEST(GroupModel, OneGroupStaysAboveTheStageBound) {
  for (const double ratio : {0.6, 1.0, 1.7}) {
    const GroupModel model = model_of(ratio);
    EXPECT_GE(predict_us(model, candidates(0).front()) + 1e-12,
              stage_bound(model.compute, model.link));
  }
}

// With one slice and one panel the stages do not overlap at all in one group: worked out by hand.
TEST(GroupModel, HandValueWithoutAnyOverlap) {
  GroupModel model = model_of(0.6);
  model.panels = {1, 1, 1};
  // Pulls 0.3, both GEMMs 1, pushes 0.3.
  EXPECT_NEAR(predict_us(model, {.groups = 1, .tiles_per_expert = 1}), 1.6, 1e-12);
}

TEST(GroupModel, ChoosesGroupsWhereTheLinkIsTheBottleneckOfAStage) {
  EXPECT_GT(rank_groups(model_of(1.0), candidates(0)).front(), 1);
  EXPECT_EQ(rank_groups(model_of(0), candidates(0)).front(), 1);
}

TEST(GroupModel, StaysWithOneGroupWherePaddingCostsMore) {
  EXPECT_EQ(rank_groups(model_of(0.3), candidates(0.2)).front(), 1);
}

TEST(GroupModel, RanksEveryCandidateOnce) {
  std::vector<std::int64_t> ranked = rank_groups(model_of(1.0), candidates(0.01));
  std::sort(ranked.begin(), ranked.end());
  EXPECT_EQ(ranked, (std::vector<std::int64_t>{1, 2, 4, 8}));
}

// What is complete late is sent late: with two rows a token half of the tiles complete a quarter.
TEST(GroupModel, TokensOfManyRowsArePushedLater) {
  GroupModel model = model_of(1.0);
  model.panels = {1, 1, 1};
  model.link = {0, 1.0};
  const GroupCandidate halves{.groups = 2, .tiles_per_expert = 1};
  EXPECT_NEAR(predict_us(model, halves), 1.0 + 0.5, 1e-12);
  model.rows_per_token = 2;
  EXPECT_NEAR(predict_us(model, halves), 1.0 + 0.75, 1e-12);
}

TEST(GroupModel, RefusesNonsense) {
  EXPECT_THROW(predict_us(model_of(1), {.groups = 0}), Error);
  GroupModel no_ranks = model_of(1);
  no_ranks.world = 0;
  EXPECT_THROW(predict_us(no_ranks, {.groups = 1}), Error);
}

}  // namespace
}  // namespace comet
