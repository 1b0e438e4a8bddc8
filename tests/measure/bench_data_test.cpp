// SPDX-License-Identifier: Apache-2.0
// Tokens, routing and weights of a case.
#include "measure/bench_data.hpp"

#include <gtest/gtest.h>

#include <cstring>

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
  const auto* gate = static_cast<const float*>(data.whole_weights().gate);
  const auto* down = static_cast<const float*>(data.whole_weights().down);
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
  EXPECT_EQ(first.whole_weights().up, second.whole_weights().up);
  const std::size_t bytes = std::size_t{5} * 32 * 48 * sizeof(float);
  EXPECT_EQ(std::memcmp(own.whole_weights().down, first.whole_weights().down, bytes), 0);
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
      const auto* exact = static_cast<const float*>(wide.whole_weights().up);
      const auto* rounded = static_cast<const T*>(narrow.whole_weights().up);
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
