// SPDX-License-Identifier: Apache-2.0
// Differences of clocks are found, however large, in a world whose ranks come at different times.
#include "measure/clock_offsets.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/trace_span.hpp"

namespace comet {
namespace {

TEST(ClockOffsets, AreFoundWithinAGathering) {
  constexpr std::int64_t kAhead[] = {0, 3'600'000'000'000, -86'400'000'000'123};
  constexpr std::int64_t kAllowedNs = 5'000'000;  // on a busy machine
  run_local_world(3, {}, [&](World& world) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * world.rank()));
    const auto now = [&] { return trace_now_ns() + kAhead[world.rank()]; };
    const std::vector<std::int64_t> ahead = measure_clock_offsets(world, now);
    ASSERT_EQ(ahead.size(), 3U);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      EXPECT_NEAR(static_cast<double>(ahead[rank] - kAhead[rank]), 0, kAllowedNs) << rank;
    }
  });
}

TEST(ClockOffsets, OneRankIsOnTime) {
  run_local_world(1, {}, [](World& world) {
    EXPECT_EQ(measure_clock_offsets(world, trace_now_ns), std::vector<std::int64_t>{0});
  });
}

}  // namespace
}  // namespace comet
