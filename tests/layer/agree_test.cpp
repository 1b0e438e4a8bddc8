// SPDX-License-Identifier: Apache-2.0
#include "layer/agree.hpp"

#include <gtest/gtest.h>

#include <array>

#include "base/check.hpp"

namespace comet {
namespace {

TEST(Agree, AllRanksThrowTheFirstFaultyRanksSentence) {
  std::array<std::string, 3> sentences;
  run_local_world(3, {}, [&](World& world) {
    try {
      agree(
          world,
          [&] {
            check(world.rank() == 0, ErrorCode::out_of_range, "rank {} is bad", world.rank());
          },
          7, "test");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_range);
      sentences[world.rank()] = error.what();
    }
    world.barrier();  // the world is still good
  });
  for (const std::string& sentence : sentences) EXPECT_EQ(sentence, "rank 1 is bad");
}

TEST(Agree, DifferentHashesAreAMismatchOnAllRanks) {
  std::atomic<int> mismatches{0};
  run_local_world(3, {}, [&](World& world) {
    try {
      agree(
          world, [] {}, world.rank() == 2 ? 8 : 7, "test");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::mismatch);
      EXPECT_STREQ(error.what(), "[test] ranks 0 and 2 ask for different layers or options");
      ++mismatches;
    }
  });
  EXPECT_EQ(mismatches, 3);
}

}  // namespace
}  // namespace comet
