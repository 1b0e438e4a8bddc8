// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/row_ops.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace comet {
namespace {

constexpr std::int64_t kColumns = 700;  // more than two strips, and no multiple of one

std::vector<float> make_rows(std::int64_t rows) {
  std::vector<float> values(rows * kColumns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<float>(i) * 0.37F);
  }
  return values;
}

TEST(RowOps, SumsRowsInOrderWithTheirWeights) {
  const std::vector<float> out = make_rows(4);
  const float weights[] = {0.5F, -2.0F, 0.25F, 3.0F};
  const std::vector<NeededRow> rows = {{2, 0}, {0, 1}, {3, 2}};
  std::vector<float> partial(kColumns);
  sum_rows<float>(rows, out.data(), kColumns, 0, kColumns, weights, partial.data());
  for (std::int64_t c = 0; c < kColumns; ++c) {
    float expected = 0.0F;
    for (const NeededRow& row : rows) {
      const float product = weights[row.row] * out[row.row * kColumns + c];
      expected = expected + product;
    }
    ASSERT_EQ(partial[c], expected) << c;
  }
}

// The protocol rests on this: a column's bits do not depend on the panel that it is summed in.
template <typename T>
void expect_panels_agree() {
  const std::vector<float> out = make_rows(3);
  const float weights[] = {0.3F, 0.6F, 0.1F};
  const std::vector<NeededRow> rows = {{0, 0}, {1, 0}, {2, 0}};
  std::vector<T> whole(kColumns);
  sum_rows<T>(rows, out.data(), kColumns, 0, kColumns, weights, whole.data());
  for (const std::int64_t width : {1, 8, 24, 255, 257}) {
    std::vector<T> parts(kColumns);
    for (std::int64_t begin = 0; begin < kColumns; begin += width) {
      sum_rows<T>(rows, out.data(), kColumns, begin, std::min(width, kColumns - begin), weights,
                  parts.data() + begin);
    }
    EXPECT_EQ(std::memcmp(whole.data(), parts.data(), kColumns * sizeof(T)), 0) << width;
  }
}

TEST(RowOps, PanelsDoNotChangeBits) {
  expect_panels_agree<float>();
  expect_panels_agree<bf16>();
}

TEST(RowOps, SumsPartialsOfTheGivenSourcesOnly) {
  const std::vector<float> combine = make_rows(5);
  const std::vector<std::int32_t> sources = {1, 4};
  std::vector<float> y(kColumns, 9.0F);
  sum_partials<float>(sources, combine.data(), kColumns, kColumns, y.data());
  for (std::int64_t c = 0; c < kColumns; ++c) {
    ASSERT_EQ(y[c], combine[kColumns + c] + combine[4 * kColumns + c]);
  }
  sum_partials<float>({}, combine.data(), kColumns, kColumns, y.data());
  EXPECT_EQ(y, std::vector<float>(kColumns, 0.0F)) << "a token without sources is zero";
}

TEST(RowOps, FinishesActivations) {
  const float first[] = {1.5F, -2.0F};
  const float second[] = {4.0F, 0.5F};
  bf16 acts[2];
  finish_activation<bf16>(first, second, 2.0F, 2, acts);
  EXPECT_EQ(to_float(acts[0]), 12.0F);
  EXPECT_EQ(to_float(acts[1]), -2.0F);
  finish_activation<bf16>(first, nullptr, 2.0F, 2, acts);
  EXPECT_EQ(to_float(acts[0]), 3.0F);
}

}  // namespace
}  // namespace comet
