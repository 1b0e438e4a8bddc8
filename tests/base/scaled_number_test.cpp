// SPDX-License-Identifier: Apache-2.0
#include "base/scaled_number.hpp"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(ScaledNumber, ReadsNumbersWithAndWithoutUnit) {
  EXPECT_EQ(parse_scaled("536870912"), 536870912);
  EXPECT_EQ(parse_scaled("512"), 512);
  EXPECT_EQ(parse_scaled("3k"), 3072);
  EXPECT_EQ(parse_scaled("64M"), std::uint64_t{64} << 20);
  EXPECT_EQ(parse_scaled("0.5G"), std::uint64_t{512} << 20);
  EXPECT_EQ(parse_scaled("2t"), std::uint64_t{2} << 40);
}

TEST(ScaledNumber, IsZeroForAnythingElse) {
  for (const char* text : {"", "0", "M", "-1", "12x", "12MB", "nan", "inf", "1e30", "1 M"}) {
    EXPECT_EQ(parse_scaled(text), 0) << text;
  }
}

}  // namespace
}  // namespace comet
