// SPDX-License-Identifier: Apache-2.0
// Rounds in which nobody has a place of their own, and what has to be called before them.
#include "measure/round_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace comet {
namespace {

TEST(RoundPlan, EveryContenderTakesEveryPlaceAndCopiesTakeTurns) {
  const std::vector<RoundCall> planned = plan_rounds(3, 3, 4);
  ASSERT_EQ(planned.size(), 9U);
  for (std::size_t place = 0; place < 3; ++place) {
    std::set<std::size_t> there;
    for (std::size_t round = 0; round < 3; ++round) {
      there.insert(planned[round * 3 + place].contender);
    }
    EXPECT_EQ(there.size(), 3U);
  }
  for (std::size_t i = 0; i < planned.size(); ++i) EXPECT_EQ(planned[i].copy, i % 4);
}

// With 74 choices, 16 copies and 2 rounds: 148 first calls, not one for each copy, which are 1184.
TEST(RoundPlan, OnlyCallsOfTheRoundsAreMadeBefore) {
  const std::vector<RoundCall> planned = plan_rounds(74, 2, 16);
  const std::vector<RoundCall> firsts = first_calls(planned);
  EXPECT_LE(firsts.size(), 148U);
  for (const RoundCall& call : planned) {
    EXPECT_EQ(std::count(firsts.begin(), firsts.end(), call), 1);
  }
  EXPECT_EQ(first_calls(plan_rounds(2, 100, 2)).size(), 4U);
  EXPECT_EQ(first_calls(plan_rounds(3, 5, 1)).size(), 3U);
}

}  // namespace
}  // namespace comet
