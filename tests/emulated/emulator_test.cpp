// SPDX-License-Identifier: Apache-2.0
// That the emulation finds what it is there for: missing barriers, threads that do not meet.
#include "emulated/emulator.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace comet::emulated {
namespace {

constexpr unsigned kThreads = 64;

// What each thread reads of what the thread after it has written.
std::vector<unsigned> neighbours(bool syncs) {
  std::vector<unsigned> written(kThreads);
  std::vector<unsigned> seen(kThreads);
  run_grid(1, kThreads, false, [&] {
    const unsigned thread = thread_index.x;
    written[thread] = thread + 1;
    if (syncs) sync_block();
    seen[thread] = written[(thread + 1) % kThreads];
  });
  return seen;
}

TEST(Emulator, ThreadsMeetAtABarrier) {
  const std::vector<unsigned> seen = neighbours(true);
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    EXPECT_EQ(seen[thread], (thread + 1) % kThreads + 1);
  }
}

TEST(Emulator, WithoutTheBarrierSomeReadTooEarly) {
  EXPECT_NE(neighbours(false), neighbours(true));
}

TEST(Emulator, BlocksComeInAnyOrder) {
  std::set<unsigned> firsts;
  for (int run = 0; run < 50; ++run) {
    std::vector<unsigned> order;
    run_grid(4, 1, false, [&] { order.push_back(block_index.x); });
    ASSERT_EQ(std::set(order.begin(), order.end()).size(), 4U);
    firsts.insert(order.front());
  }
  EXPECT_EQ(firsts.size(), 4U);
}

TEST(Emulator, LanesOfOneMaskExchange) {
  constexpr std::uint32_t kOdd = 0xaaaaaaaaU;
  std::vector<std::uint64_t> sums(kThreads);
  run_grid(1, kThreads, false, [&] {
    const unsigned thread = thread_index.x;
    // Twice, since a lane may be ahead of those that have yet to read.
    for (int turn = 0; turn < 2; ++turn) {
      sums[thread] = 0;
      const auto& values = exchange(thread % 2 == 1 ? kOdd : ~kOdd, thread);
      for (unsigned lane = thread % 2; lane < kWarp; lane += 2) sums[thread] += values[lane];
    }
  });
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    std::uint64_t expected = 0;
    for (unsigned lane = thread % 2; lane < kWarp; lane += 2)
      expected += thread / kWarp * kWarp + lane;
    EXPECT_EQ(sums[thread], expected);
  }
}

TEST(EmulatorDeathTest, ThreadsThatDoNotMeetAreNamed) {
  EXPECT_DEATH(run_grid(1, 2, false,
                        [] {
                          if (thread_index.x == 1) sync_block();
                        }),
               "barrier");
  EXPECT_DEATH(run_grid(1, 2, false,
                        [] {
                          if (thread_index.x == 1) exchange(3, 0);
                        }),
               "block 0 of 1: its threads wait for each other");
  EXPECT_DEATH(run_grid(1, 2, false, [] { exchange(1, 0); }),
               "thread 1: calls a warp's function without");
  EXPECT_DEATH(run_grid(1, 1, true, [] {}), "without waiting for the kernel before");
}

}  // namespace
}  // namespace comet::emulated
