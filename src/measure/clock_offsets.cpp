// SPDX-License-Identifier: Apache-2.0
#include "measure/clock_offsets.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace comet {
namespace {

constexpr std::size_t kGatherings = 16;

// When a rank came to each gathering and left it, by its own clock.
struct Visits {
  std::array<std::int64_t, kGatherings> came{};
  std::array<std::int64_t, kGatherings> left{};
};

// The most that a's clock can be ahead of b's: a left after b came.
std::int64_t most_ahead(const Visits& a, const Visits& b) {
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (std::size_t i = 0; i < kGatherings; ++i) most = std::min(most, a.left[i] - b.came[i]);
  return most;
}

}  // namespace

std::vector<std::int64_t> measure_clock_offsets(World& world,
                                                const std::function<std::int64_t()>& now) {
  Visits own;
  std::vector<std::int64_t> ignored(static_cast<std::size_t>(world.size()));
  for (std::size_t i = 0; i < kGatherings; ++i) {
    own.came[i] = now();
    world.all_gather(&own.came[i], ignored.data(), sizeof(std::int64_t));
    own.left[i] = now();
  }
  std::vector<Visits> all(static_cast<std::size_t>(world.size()));
  world.all_gather(&own, all.data(), sizeof(Visits));
  std::vector<std::int64_t> ahead;
  for (const Visits& visits : all) {
    const std::int64_t most = most_ahead(visits, all.front());
    const std::int64_t least = -most_ahead(all.front(), visits);
    ahead.push_back(least + (most - least) / 2);
  }
  ahead.front() = 0;
  return ahead;
}

}  // namespace comet
