// SPDX-License-Identifier: Apache-2.0
#include "comm/launch/launched_group.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <numeric>

#include "comm/forked_group.hpp"
#include "io/expect_error.hpp"

namespace comet {
namespace {

using std::chrono::milliseconds;

TEST(LaunchedGroup, ProcessesShowEachOtherAnySize) {
  for (const int size : {1, 2, 4}) {
    const LaunchArena arena(size);
    const auto ends = run_forked(size, [&](std::unique_ptr<ForkedGroup> forked) -> std::string {
      LaunchedGroup group(arena, forked->rank(), milliseconds(20000));
      if (group.size() != size || group.rank() != forked->rank()) return "who?";
      for (const std::size_t count : {0, 1, 32, 33, 500}) {
        std::vector<std::uint64_t> own(count);
        std::iota(own.begin(), own.end(), 1000 * static_cast<std::uint64_t>(group.rank()));
        std::vector<std::uint64_t> all(count * static_cast<std::size_t>(size));
        group.all_gather(own.data(), all.data(), count * 8);
        for (std::size_t i = 0; i < all.size(); ++i) {
          if (all[i] != i / count * 1000 + i % count) return fmt::format("{} at {}", all[i], i);
        }
      }
      return {};
    });
    for (const ForkedEnd& end : ends) EXPECT_EQ(end.text, "");
  }
}

TEST(LaunchedGroup, AWorldIsMadeOfIt) {
  const LaunchArena arena(3);
  const auto ends = run_forked(3, [&](std::unique_ptr<ForkedGroup> forked) -> std::string {
    auto group = std::make_unique<LaunchedGroup>(arena, forked->rank(), milliseconds(20000));
    ProcessWorld world(std::move(group), milliseconds(20000));
    world.barrier();
    return std::string(world.kind());
  });
  for (const ForkedEnd& end : ends) EXPECT_EQ(end.text, "process");
}

TEST(LaunchedGroup, WaitsEndWhenARankHasEnded) {
  const LaunchArena arena(3);
  LaunchedGroup group(arena, 0, milliseconds(20000));
  arena.set_gone(2);
  arena.set_gone(1);
  int value = 0;
  int all[3] = {};
  expect_error(ErrorCode::peer, "[launch] rank 2 is gone",
               [&] { group.all_gather(&value, all, sizeof(value)); });
}

TEST(LaunchedGroup, WaitsHaveALimit) {
  const LaunchArena arena(2);
  LaunchedGroup group(arena, 1, milliseconds(20));
  int value = 0;
  int all[2] = {};
  expect_error(ErrorCode::timeout, "[launch] rank 1 waited 20 ms for the other ranks to start",
               [&] { group.all_gather(&value, all, sizeof(value)); });
}

}  // namespace
}  // namespace comet
