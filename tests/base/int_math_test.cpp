// SPDX-License-Identifier: Apache-2.0
#include "base/int_math.hpp"
#include "base/checked_math.hpp"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(IntMath, DividesAndRoundsUp) {
  EXPECT_EQ(ceil_div(0, 4), 0);
  EXPECT_EQ(ceil_div(1, 4), 1);
  EXPECT_EQ(ceil_div(8, 4), 2);
  EXPECT_EQ(round_up(9, 4), 12);
}

TEST(IntMath, ProductsThatOverflowAreErrors) {
  EXPECT_EQ(checked_product("a test", {3, 5, 7}), 105);
  EXPECT_THROW(checked_product("a test", {std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
  EXPECT_THROW(checked_product("a test", {-1}), Error);
}

}  // namespace
}  // namespace comet
