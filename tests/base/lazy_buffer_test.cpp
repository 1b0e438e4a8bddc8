// SPDX-License-Identifier: Apache-2.0
#include "base/lazy_buffer.hpp"

#include <gtest/gtest.h>

#include "comet/error.hpp"

namespace comet {
namespace {

TEST(LazyBuffer, GrowsAndStaysWhereItIsWhenLargeEnough) {
  LazyBuffer buffer;
  buffer.ensure(0);
  EXPECT_EQ(buffer.bytes(), 0);
  buffer.ensure(10000);
  EXPECT_GE(buffer.bytes(), 10000);
  EXPECT_EQ(buffer.data()[9999], std::byte{0});
  buffer.data()[9999] = std::byte{7};
  const std::byte* before = buffer.data();
  buffer.ensure(5000);
  EXPECT_EQ(buffer.data(), before);
  EXPECT_EQ(buffer.data()[9999], std::byte{7});
  buffer.ensure(1 << 20);
  EXPECT_GE(buffer.bytes(), 1 << 20);
}

TEST(LazyBuffer, ImpossibleSizesAreErrors) {
  LazyBuffer buffer;
  EXPECT_THROW(buffer.ensure(std::int64_t{1} << 60), Error);
}

}  // namespace
}  // namespace comet
