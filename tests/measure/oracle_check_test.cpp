// SPDX-License-Identifier: Apache-2.0
// The check before a row is shown: it passes what a layer computes and finds a wrong element.
#include "measure/oracle_check.hpp"

#include <gtest/gtest.h>

#include <string>

#include "comet/error.hpp"
#include "comet/layer.hpp"
#include "measure/small_bench.hpp"

namespace comet {
namespace {

std::vector<std::vector<std::byte>> reference_outputs(const BenchCase& bench,
                                                      const BenchData& data) {
  const auto world_size = static_cast<int>(bench.parallel.world_size());
  std::vector<std::vector<std::byte>> y(world_size);
  run_local_world(world_size, {}, [&](World& world) {
    const int rank = world.rank();
    const MoeDesc& desc = data.desc();
    const auto layer =
        MoeLayer::create(desc, bench.parallel, data.weights_of(rank), world, {.num_workers = 1});
    y[rank].resize(data.tokens_of(rank) * desc.hidden * size_of(desc.dtype));
    layer->forward(data.x_of(rank), data.routing_of(rank),
                   {y[rank].data(), data.tokens_of(rank), desc.hidden, desc.hidden, desc.dtype},
                   {.schedule = Schedule::sequential});
  });
  return y;
}

std::vector<const std::byte*> pointers(const std::vector<std::vector<std::byte>>& y) {
  std::vector<const std::byte*> result;
  for (const auto& of_rank : y) result.push_back(of_rank.data());
  return result;
}

class OracleCheck : public testing::TestWithParam<DType> {};

TEST_P(OracleCheck, PassesALayerAndFindsAWrongElement) {
  BenchCase bench = small_bench();
  bench.desc.dtype = GetParam();
  const BenchData data(bench);
  auto y = reference_outputs(bench, data);
  const TokenSample all = choose_sample(data, 2, 10);
  ASSERT_EQ(all.entries.size(), 150U);
  EXPECT_NO_THROW(check_with_oracle(data, {}, all, pointers(y)));

  // The exponent's lowest bit of one element: half or double the number.
  const std::size_t index = (3 * 32 + 5) * size_of(GetParam()) + size_of(GetParam()) - 1;
  y[1][index] ^= std::byte{1};
  try {
    check_with_oracle(data, {}, all, pointers(y));
    FAIL() << "a wrong element was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::internal);
    EXPECT_NE(std::string(error.what()).find("rank 1 token 3 column 5"), std::string::npos)
        << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, OracleCheck, testing::Values(DType::f32, DType::bf16),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

TEST(TokenSample, IsEvenlySpacedOverAllRanks) {
  const BenchData data(small_bench());
  const TokenSample two = choose_sample(data, 2, 0);  // no time: one token per rank
  ASSERT_EQ(two.entries.size(), 2U);
  EXPECT_EQ(two.entries[0].rank, 0);
  EXPECT_EQ(two.entries[0].token, 0);
  EXPECT_EQ(two.entries[1].rank, 1);
  EXPECT_EQ(two.entries[1].token, 0);
}

TEST(TokenSample, OfNoTokensIsEmpty) {
  BenchCase bench = small_bench();
  bench.tokens = 0;
  EXPECT_TRUE(choose_sample(BenchData(bench), 2, 1).entries.empty());
}

}  // namespace
}  // namespace comet
