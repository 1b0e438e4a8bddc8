// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/tile_gemm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "comet/dtype.hpp"

namespace comet {
namespace {

template <typename T>
std::vector<T> random_values(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<T> values;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(from_float<T>(static_cast<float>(random()) * 0x1p-31F - 1.0F));
  }
  return values;
}

double activate(const std::optional<Activation>& activation, double value) {
  if (!activation) return value;
  switch (*activation) {
    case Activation::silu:
      return value / (1 + std::exp(-value));
    case Activation::gelu:
      return 0.5 * value * (1 + std::erf(value / std::sqrt(2.0)));
    case Activation::relu:
      return std::max(value, 0.0);
  }
  return 0;
}

template <typename T>
void expect_right(const TileGemmShape& shape) {
  const auto a = random_values<T>(shape.m * shape.k, 1);
  const auto b = random_values<T>(shape.n * shape.ldb, 2);
  std::vector<float> c(shape.m * shape.ldc, -7.0F);
  GemmThread thread;
  TileGemm(shape).run(a.data(), b.data(), c.data(), thread);
  for (std::int64_t i = 0; i < shape.m; ++i) {
    for (std::int64_t j = 0; j < shape.ldc; ++j) {
      const float got = c[i * shape.ldc + j];
      if (j >= shape.n) {
        ASSERT_EQ(got, -7.0F) << "wrote outside its columns at " << i << ", " << j;
        continue;
      }
      double sum = 0;
      double magnitude = 0;
      for (std::int64_t k = 0; k < shape.k; ++k) {
        const double term = double{to_float(a[i * shape.k + k])} * to_float(b[j * shape.ldb + k]);
        sum += term;
        magnitude += std::abs(term);
      }
      // float32 sums of k terms; the activations' slope is below 1.2.
      ASSERT_NEAR(got, activate(shape.activation, sum), 1e-6 + 4e-7 * magnitude)
          << "at " << i << ", " << j;
    }
  }
}

TEST(TileGemm, MultipliesStridedTilesWithEachActivation) {
  for (const std::int64_t n : {8, 24, 64}) {
    TileGemmShape shape{.m = 32, .n = n, .k = 40, .ldb = 48, .ldc = 72};
    for (const auto& activation :
         {std::optional<Activation>(), std::optional(Activation::silu),
          std::optional(Activation::gelu), std::optional(Activation::relu)}) {
      shape.activation = activation;
      shape.dtype = DType::f32;
      expect_right<float>(shape);
      shape.dtype = DType::bf16;
      expect_right<bf16>(shape);
    }
  }
}

// Bitwise equality of schedules with other groups needs this: a row's bits do not depend on where
// in its tile it lies, nor on the rows beside it.
template <typename T>
void expect_rows_independent(DType dtype, std::int64_t m) {
  const TileGemmShape shape{.dtype = dtype, .m = m, .n = 40, .k = 104, .ldb = 112, .ldc = 48};
  const TileGemm gemm(shape);
  GemmThread thread;
  const auto row = random_values<T>(shape.k, 3);
  const auto b = random_values<T>(shape.n * shape.ldb, 4);
  std::vector<float> expected;
  for (std::int64_t place = 0; place < m; ++place) {
    auto a = random_values<T>(m * shape.k, 5 + static_cast<std::uint32_t>(place));
    std::copy(row.begin(), row.end(), a.begin() + place * shape.k);
    std::vector<float> c(m * shape.ldc);
    gemm.run(a.data(), b.data(), c.data(), thread);
    const auto first = c.begin() + place * shape.ldc;
    const std::vector<float> got(first, first + shape.n);
    if (place == 0) expected = got;
    ASSERT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0)
        << "row " << place << " of " << m;
  }
}

TEST(TileGemm, RowsDoNotDependOnTheirPlace) {
  for (const std::int64_t m : {8, 16, 24, 32, 40, 48, 56, 64, 104, 128, 200, 256}) {
    expect_rows_independent<float>(DType::f32, m);
    expect_rows_independent<bf16>(DType::bf16, m);
  }
}

}  // namespace
}  // namespace comet
