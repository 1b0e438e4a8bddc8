// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/ready_list.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace comet {
namespace {

constexpr auto kReady = [](std::int64_t) { return true; };

TEST(ReadyList, TakesTheFirstReadyEntryAndPassesOverOthers) {
  ReadyList list;
  list.reset(3, 2);
  const auto not_first = [](std::int64_t i) { return i != 0; };
  EXPECT_EQ(list.take(0, not_first)->entry, 1);
  const auto second = list.take(0, not_first);
  EXPECT_EQ(second->entry, 1);
  EXPECT_EQ(second->part, 1);
  EXPECT_EQ(list.take(0, not_first)->entry, 2);
  EXPECT_EQ(list.take(0, kReady)->entry, 0);
  EXPECT_FALSE(list.exhausted());
}

TEST(ReadyList, IsNotSearchedAgainBeforeTheDoorbellRings) {
  ReadyList list;
  list.reset(1, 1);
  const auto not_ready = [](std::int64_t) { return false; };
  EXPECT_FALSE(list.take(7, not_ready).has_value());
  EXPECT_FALSE(list.take(7, kReady).has_value()) << "searched in vain at 7";
  EXPECT_EQ(list.take(8, kReady)->entry, 0);
  list.reset(1, 1);
  EXPECT_EQ(list.take(7, kReady)->entry, 0) << "a new call forgets";
}

TEST(ReadyList, IsEmptyWhenExhausted) {
  ReadyList list;
  list.reset(0, 1);
  EXPECT_TRUE(list.exhausted());
  EXPECT_FALSE(list.take(0, kReady).has_value());
  list.reset(1, 1);
  EXPECT_TRUE(list.take(0, kReady).has_value());
  EXPECT_FALSE(list.take(0, kReady).has_value());
  EXPECT_TRUE(list.exhausted());
}

TEST(ReadyList, GivesEachPieceToOneWorker) {
  ReadyList list;
  constexpr int kEntries = 500;
  constexpr int kWidth = 3;
  list.reset(kEntries, kWidth);
  std::vector<std::atomic<int>> taken(kEntries * kWidth);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::uint32_t rung = 1U << (20 + t);  // no two searches see the same doorbell
      const auto by_turns = [t](std::int64_t i) { return i % 4 != t; };
      for (;;) {
        auto piece = list.take(rung++, by_turns);
        if (!piece) piece = list.take(rung++, kReady);
        if (!piece) return;
        taken[piece->entry * kWidth + piece->part].fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& count : taken) EXPECT_EQ(count.load(), 1);
}

}  // namespace
}  // namespace comet
