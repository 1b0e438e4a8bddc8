// SPDX-License-Identifier: Apache-2.0
#include "comet/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace comet {
namespace {

TEST(DType, EveryBf16SurvivesTheWayThere) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 value{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_float(to_bf16(wide))));
    } else {
      EXPECT_EQ(to_bf16(wide).bits, value.bits);
    }
  }
}

TEST(DType, RoundsToNearestTiesToEven) {
  EXPECT_EQ(to_float(to_bf16(1.0F + 0x1p-9F)), 1.0F);
  EXPECT_EQ(to_float(to_bf16(1.0F + 0x1p-8F)), 1.0F) << "a tie goes to the even mantissa";
  EXPECT_EQ(to_float(to_bf16(1.0F + 0x1.8p-8F)), 1.0F + 0x1p-7F);
  EXPECT_EQ(to_float(to_bf16(1.0F + 0x3p-8F)), 1.0F + 0x1p-6F);
  EXPECT_EQ(to_float(to_bf16(std::numeric_limits<float>::max())),
            std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace comet
