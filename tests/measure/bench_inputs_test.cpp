// SPDX-License-Identifier: Apache-2.0
// How many copies of the inputs outgrow an L2, and that a CPU needs none.
#include "measure/bench_inputs.hpp"

#include <gtest/gtest.h>

#include "measure/small_bench.hpp"

namespace comet {
namespace {

TEST(BenchInputs, CopiesOutgrowTwiceTheL2) {
  constexpr std::int64_t kL2 = 50 << 20;
  for (const std::int64_t bytes : {7 << 20, 16 << 20, 50 << 20, 99 << 20, 100 << 20}) {
    const int copies = num_input_copies(bytes, kL2);
    EXPECT_GT(copies * bytes, 2 * kL2) << bytes;
    EXPECT_LE((copies - 1) * bytes, 2 * kL2) << bytes;
  }
  EXPECT_EQ(num_input_copies(101 << 20, kL2), 1);
  EXPECT_EQ(num_input_copies(1 << 20, kL2), 16);  // and no more
  EXPECT_EQ(num_input_copies(0, kL2), 1);
  EXPECT_EQ(num_input_copies(1 << 20, 0), 1);
}

TEST(BenchInputs, OnCpuAreTheCaseItself) {
  const BenchData data(small_bench());
  run_local_world(2, {}, [&](World& world) {
    const int rank = world.rank();
    BenchInputs inputs(data, world, 0);
    ASSERT_EQ(inputs.num_copies(), 1U);
    const BenchInputs::Copy& copy = inputs.copy(0);
    EXPECT_EQ(copy.x.data, data.x_of(rank).data);
    EXPECT_EQ(copy.routing.ids, data.routing_of(rank).ids);
    EXPECT_EQ(inputs.weights().down.base, data.weights_of(rank).down.base);
    EXPECT_EQ(inputs.weights().down.offset, data.weights_of(rank).down.offset);
    EXPECT_EQ(static_cast<const void*>(inputs.read_y(0).data()), copy.y.data);
    EXPECT_EQ(inputs.read_y(0).size(), static_cast<std::size_t>(data.tokens_of(rank) * 32 * 4));
  });
}

}  // namespace
}  // namespace comet
