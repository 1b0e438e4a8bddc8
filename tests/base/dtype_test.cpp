// SPDX-License-Identifier: Apache-2.0
#include "comet/dtype.hpp"

#include <gtest/gtest.h>

#include <bit>
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

// What the bits of a half mean, by their definition.
double value_of(int bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(F16, EveryHalfHasItsValueAndSurvivesTheWayThere) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const f16 half{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(half);
    ASSERT_EQ(std::signbit(wide), bits >= 0x8000) << bits;
    if ((bits & 0x7fff) > 0x7c00) {
      ASSERT_TRUE(std::isnan(wide)) << bits;
      ASSERT_EQ(to_f16(wide).bits, bits | 0x200) << "quiet, with sign and payload kept";
      continue;
    }
    if ((bits & 0x7fff) == 0x7c00) {
      ASSERT_TRUE(std::isinf(wide)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(wide), value_of(bits)) << bits;
    }
    ASSERT_EQ(to_f16(wide).bits, bits);
  }
}

// Between any two neighbours: the middle goes to the even one, and the next float on either side of
// the middle to the nearer one. 65520 is the middle between the largest half and infinity.
TEST(F16, RoundsToNearestTiesToEvenBetweenAllNeighbours) {
  for (int lower = 0; lower < 0x7c00; ++lower) {
    const auto middle = static_cast<float>((value_of(lower) + value_of(lower + 1)) / 2);
    ASSERT_EQ(to_f16(middle).bits, lower + (lower & 1)) << lower;
    ASSERT_EQ(to_f16(std::nextafter(middle, 0.0F)).bits, lower) << lower;
    ASSERT_EQ(to_f16(std::nextafter(middle, 1e9F)).bits, lower + 1) << lower;
    ASSERT_EQ(to_f16(-middle).bits, 0x8000 + lower + (lower & 1)) << lower;
  }
}

TEST(F16, EndsOfTheRange) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_f16(65504.0F).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.99F).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0F).bits, 0x7c00) << "overflow is infinity";
  EXPECT_EQ(to_f16(-1e30F).bits, 0xfc00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(to_f16(kInfinity).bits, 0x7c00);
  EXPECT_EQ(to_f16(-kInfinity).bits, 0xfc00);
  EXPECT_EQ(to_f16(0x1p-24F).bits, 1) << "the smallest";
  EXPECT_EQ(to_f16(0x1p-25F).bits, 0) << "a tie with zero";
  EXPECT_EQ(to_f16(0x1.000002p-25F).bits, 1);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::denorm_min()).bits, 0);
  EXPECT_EQ(to_f16(-1e-30F).bits, 0x8000) << "zero keeps its sign";
  // A NaN whose payload lies below the bits that a half has.
  EXPECT_EQ(to_f16(std::bit_cast<float>(0x7f800001U)).bits, 0x7e00);
  EXPECT_EQ(to_f16(std::bit_cast<float>(0xff800001U)).bits, 0xfe00);
}

// At compile time too.
static_assert(to_float(to_f16(-0.1F)) == -0x1.998p-4F);
static_assert(to_f16(0x1.8p-24F).bits == 2);
static_assert(from_float<f16>(1.0F).bits == 0x3c00);

}  // namespace
}  // namespace comet
