// SPDX-License-Identifier: Apache-2.0
// Tokens of comet run: shares of ranks, random values, and the error that --check prints.
#include "cli/tokens.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "cli/split.hpp"

namespace comet::cli {
namespace {

Tokens tokens_of(const std::vector<float>& values) {
  Tokens tokens(1, static_cast<std::int64_t>(values.size()), DType::f32);
  std::memcpy(tokens.data.data(), values.data(), values.size() * sizeof(float));
  return tokens;
}

TEST(TokenShare, CoversAllTokensInOrderAndEvenly) {
  for (std::int64_t ranks = 1; ranks <= 9; ++ranks) {
    for (std::int64_t total = 0; total <= 40; ++total) {
      std::int64_t next = 0;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const TokenShare share = token_share(total, ranks, rank);
        EXPECT_EQ(share.begin, next);
        EXPECT_GE(share.count, total / ranks);
        EXPECT_LE(share.count, token_share(total, ranks, 0).count);
        next += share.count;
      }
      EXPECT_EQ(next, total);
    }
  }
}

TEST(Tokens, RandomOnesAreInRangeAndRounded) {
  const Tokens wide = load_tokens("random:5", 8, DType::f32, 3);
  const Tokens of_bf16 = load_tokens("random:5", 8, DType::bf16, 3);
  const Tokens of_f16 = load_tokens("random:5", 8, DType::f16, 3);
  ASSERT_EQ(wide.rows, 5);
  ASSERT_EQ(of_bf16.data.size(), 5U * 8 * 2);
  ASSERT_EQ(of_f16.data.size(), 5U * 8 * 2);
  for (std::int64_t i = 0; i < 40; ++i) {
    EXPECT_GE(wide.at(i), -1.0F);
    EXPECT_LT(wide.at(i), 1.0F);
    EXPECT_EQ(of_bf16.at(i), to_float(to_bf16(wide.at(i))));
    EXPECT_EQ(of_f16.at(i), to_float(to_f16(wide.at(i))));
  }
  EXPECT_NE(wide.at(0), wide.at(1));
}

TEST(MaxRelativeError, IsOverTheLargestElement) {
  const Tokens reference = tokens_of({1, -4, 0});
  EXPECT_EQ(max_relative_error(reference, reference), 0);
  EXPECT_EQ(max_relative_error(tokens_of({1, -4, 0.5F}), reference), 0.125);
  EXPECT_EQ(max_relative_error(tokens_of({0, 0}), tokens_of({0, 0})), 0);
  EXPECT_TRUE(std::isinf(max_relative_error(tokens_of({1, 0}), tokens_of({0, 0}))));
}

TEST(MaxRelativeError, IsNanIfAnythingIs) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(max_relative_error(tokens_of({nan, 2}), tokens_of({1, 2}))));
  EXPECT_TRUE(std::isnan(max_relative_error(tokens_of({1, 2}), tokens_of({1, nan}))));
}

}  // namespace
}  // namespace comet::cli
