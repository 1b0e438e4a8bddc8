// SPDX-License-Identifier: Apache-2.0
// Tokens, routing and weights of a case.
#include "measure/bench_data.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/element.hpp"
#include "comet/error.hpp"
#include "measure/small_bench.hpp"

namespace comet {
namespace {

TEST(BenchData, SpreadsTokensEvenly) {
  BenchCase bench = small_bench();
  bench.parallel = {.ep = 4, .tp = 1};
  const BenchData data(bench);
  std::int64_t total = 0;
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_GE(data.tokens_of(rank), 37);
    EXPECT_LE(data.tokens_of(rank), 38);
    total += data.tokens_of(rank);
  }
  EXPECT_EQ(total, 150);
  EXPECT_EQ(data.desc().max_tokens, 38);
}

TEST(BenchData, RanksSeeTheirSlicesOfTheWholeExperts) {
  BenchCase bench = small_bench();
  bench.parallel = {.ep = 2, .tp = 2};
  const BenchData data(bench);
  const auto* gate = reinterpret_cast<const float*>(data.weights().gate());
  const auto* down = reinterpret_cast<const float*>(data.weights().down());
  // Rank 3 is EP rank 1 (experts 3 and 4), second slice of I.
  const MoeWeights weights = data.weights_of(3);
  for (const std::int64_t local : {0, 1}) {
    const std::int64_t expert = 3 + local;
    EXPECT_EQ(weights.gate.expert(local, DType::f32), gate + (expert * 48 + 24) * 32);
    EXPECT_EQ(weights.down.expert(local, DType::f32), down + expert * 32 * 48 + 24);
  }
  EXPECT_EQ(weights.gate.row_stride, 32);
  EXPECT_EQ(weights.down.row_stride, 48);
}

// All numbers that `view` shows, row by row.
std::vector<float> numbers_of(const ExpertMatrices& view, std::int64_t experts, std::int64_t rows,
                              std::int64_t cols) {
  std::vector<float> numbers;
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto* const matrix = static_cast<const float*>(view.expert(e, DType::f32));
    for (std::int64_t row = 0; row < rows; ++row) {
      const float* const first = matrix + row * view.row_stride;
      numbers.insert(numbers.end(), first, first + cols);
    }
  }
  return numbers;
}

// A process has its own rank's part, and nothing of the others but their routing.
TEST(BenchData, OfOneRankHasTheNumbersOfAll) {
  BenchCase bench = small_bench();
  bench.desc = {.num_experts = 6, .topk = 2, .hidden = 256, .intermediate = 1024};
  bench.parallel = {.ep = 2, .tp = 2};
  const BenchData all(bench);
  for (int rank = 0; rank < 4; ++rank) {
    const BenchData own(bench, rank);
    EXPECT_EQ(4 * own.weights().matrices_bytes(), all.weights().matrices_bytes());
    const MoeWeights expected = all.weights_of(rank), got = own.weights_of(rank);
    EXPECT_EQ(numbers_of(got.gate, 3, 512, 256), numbers_of(expected.gate, 3, 512, 256));
    EXPECT_EQ(numbers_of(got.up, 3, 512, 256), numbers_of(expected.up, 3, 512, 256));
    EXPECT_EQ(numbers_of(got.down, 3, 256, 512), numbers_of(expected.down, 3, 256, 512));
    for (int other = 0; other < 4; ++other) {
      EXPECT_EQ(own.x_of(other).data != nullptr, other == rank);
      EXPECT_EQ(own.tokens_of(other), all.tokens_of(other));
      EXPECT_EQ(own.routing_of(other).id(3), all.routing_of(other).id(3));
    }
    const std::size_t bytes = static_cast<std::size_t>(own.tokens_of(rank)) * 256 * sizeof(float);
    EXPECT_EQ(std::memcmp(own.x_of(rank).data, all.x_of(rank).data, bytes), 0);
    const BenchData::Expert drawn = own.expert(5), held = all.expert(5);
    const std::size_t expert_bytes = std::size_t{1024} * 256 * sizeof(float);
    EXPECT_EQ(std::memcmp(drawn.matrices.gate, held.matrices.gate, expert_bytes), 0);
    EXPECT_EQ(std::memcmp(drawn.matrices.down, held.matrices.down, expert_bytes), 0);
  }
}

TEST(BenchData, SameSeedSameNumbersOtherSeedOthers) {
  BenchCase bench = small_bench();
  const BenchData a(bench), b(bench);
  bench.seed = 2;
  const BenchData c(bench);
  const std::size_t bytes = 75 * 32 * sizeof(float);
  EXPECT_EQ(std::memcmp(a.x_of(1).data, b.x_of(1).data, bytes), 0);
  EXPECT_NE(std::memcmp(a.x_of(1).data, c.x_of(1).data, bytes), 0);
  EXPECT_NE(std::memcmp(a.x_of(1).data, a.x_of(0).data, bytes), 0);
  EXPECT_EQ(a.routing_of(0).id(7), b.routing_of(0).id(7));
}

TEST(BenchData, CasesOfOneLayerAndSeedShareTheirWeights) {
  BenchWeightsCache cache;
  BenchCase bench = small_bench();
  const BenchData own(bench);
  bench.weights = cache.weights_of(bench);
  bench.tokens = 80;
  const BenchData first(bench), second(bench);
  EXPECT_EQ(first.weights().up(), second.weights().up());
  const std::size_t bytes = std::size_t{5} * 32 * 48 * sizeof(float);
  EXPECT_EQ(std::memcmp(own.weights().down(), first.weights().down(), bytes), 0);
  bench.parallel = {.ep = 1, .tp = 2};
  EXPECT_EQ(cache.weights_of(bench), bench.weights);
  bench.seed = 2;
  EXPECT_THROW(BenchData{bench}, Error) << "weights of another seed";
  EXPECT_NE(cache.weights_of(bench), bench.weights);
}

TEST(BenchData, NarrowTypesHaveTheSameNumbersRounded) {
  BenchCase bench = small_bench();
  const BenchData wide(bench);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    bench.desc.dtype = dtype;
    const BenchData narrow(bench);
    dispatch(dtype, [&]<typename T>() {
      const auto* exact = reinterpret_cast<const float*>(wide.weights().up());
      const auto* rounded = reinterpret_cast<const T*>(narrow.weights().up());
      for (std::int64_t i = 0; i < 48 * 32; ++i) {
        ASSERT_EQ(to_float(rounded[i]), to_float(from_float<T>(exact[i]))) << to_string(dtype);
      }
    });
  }
}

TEST(BenchData, PaddedRowsGrowWithTilesAndGroups) {
  const BenchData data(small_bench());
  EXPECT_EQ(data.rows(), 300);
  EXPECT_EQ(data.padded_rows(1, 1), 300);
  const std::int64_t one = data.padded_rows(16, 1);
  EXPECT_GE(one, 300);
  EXPECT_LT(one, 300 + 5 * 16);
  EXPECT_EQ(one % 16, 0);
  EXPECT_GE(data.padded_rows(16, 2), one);
  EXPECT_EQ(data.padded_rows(1, 2), 300);
}

TEST(BenchData, RefusesAnOwnerTable) {
  BenchCase bench = small_bench();
  bench.desc.expert_owner = {0, 1, 0, 1, 0};
  EXPECT_THROW(BenchData{bench}, Error);
}

}  // namespace
}  // namespace comet
