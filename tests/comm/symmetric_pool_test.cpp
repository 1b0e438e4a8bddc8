// SPDX-License-Identifier: Apache-2.0
#include "comm/process/symmetric_pool.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "comet/error.hpp"

namespace comet {
namespace {

constexpr std::size_t kUnit = SymmetricPool::kUnit;

// Addresses that nobody reads.
std::byte* at(std::size_t units) { return reinterpret_cast<std::byte*>((1000 + units) * kUnit); }

TEST(SymmetricPool, GivesTheLowestPlaceThatFits) {
  SymmetricPool pool;
  EXPECT_FALSE(pool.has_room(1));
  EXPECT_EQ(pool.allocate(1), nullptr);
  pool.add(at(20), 10 * kUnit);
  pool.add(at(0), 2 * kUnit + 100);  // the rest is no unit
  EXPECT_EQ(pool.allocate(3 * kUnit), at(20));
  EXPECT_EQ(pool.allocate(0), at(0));
  EXPECT_EQ(pool.allocate(kUnit), at(1));
  EXPECT_EQ(pool.allocate(kUnit + 1), at(23));
  EXPECT_TRUE(pool.has_room(5 * kUnit));
  EXPECT_FALSE(pool.has_room(5 * kUnit + 1));
}

TEST(SymmetricPool, PiecesAndPartsThatTouchAreOne) {
  SymmetricPool pool;
  pool.add(at(0), 4 * kUnit);
  pool.add(at(8), 4 * kUnit);
  pool.add(at(4), 4 * kUnit);
  EXPECT_EQ(pool.allocate(12 * kUnit), at(0));
  pool.release(at(0));
  std::vector<std::byte*> parts;
  for (int i = 0; i < 3; ++i) parts.push_back(pool.allocate(4 * kUnit));
  pool.release(parts[0]);
  pool.release(parts[2]);
  EXPECT_FALSE(pool.has_room(5 * kUnit));
  pool.release(parts[1]);
  EXPECT_TRUE(pool.has_room(12 * kUnit));
}

TEST(SymmetricPool, TakesBackWhatItGaveOnly) {
  SymmetricPool pool;
  pool.add(at(0), 4 * kUnit);
  std::byte* const part = pool.allocate(2 * kUnit);
  EXPECT_THROW(pool.release(part + kUnit), Error);
  pool.release(part);
  EXPECT_THROW(pool.release(part), Error);
}

// As a process of a world does beside another, whose heap lies elsewhere.
TEST(SymmetricPool, TheSameCallsGiveTheSamePlaces) {
  SymmetricPool pools[2];
  const std::ptrdiff_t apart = at(100000) - at(0);
  std::vector<std::byte*> held;
  std::mt19937 random(5);
  std::size_t end = 0;
  for (int step = 0; step < 5000; ++step) {
    if (!held.empty() && random() % 2 == 0) {
      const std::size_t which = random() % held.size();
      pools[0].release(held[which]);
      pools[1].release(held[which] + apart);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
      continue;
    }
    const std::size_t bytes = 1 + random() % (20 * kUnit);
    ASSERT_EQ(pools[0].has_room(bytes), pools[1].has_room(bytes));
    if (!pools[0].has_room(bytes)) {
      pools[0].add(at(end), 64 * kUnit);
      pools[1].add(at(end) + apart, 64 * kUnit);
      end += 64;
    }
    std::byte* const part = pools[0].allocate(bytes);
    ASSERT_NE(part, nullptr);
    ASSERT_EQ(pools[1].allocate(bytes), part + apart);
    for (const std::byte* other : held) ASSERT_NE(other, part);
    held.push_back(part);
  }
  EXPECT_LT(end, 64 * 1000);
}

}  // namespace
}  // namespace comet
