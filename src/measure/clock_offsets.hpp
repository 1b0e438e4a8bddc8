// SPDX-License-Identifier: Apache-2.0
// How far the clocks of ranks are apart, whose events are to be drawn on one axis.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comet/world.hpp"

namespace comet {

/// By how many nanoseconds each rank's clock is ahead of rank 0's, the same numbers on all ranks.
/// `now` reads this rank's. No rank leaves a gathering before every rank has come to it, which
/// bounds each difference from both sides; the middle of the closest bounds of several gatherings
/// is off by at most half of the fastest one: some microseconds in a host, less than a round trip
/// between hosts. What clocks drift apart later is not known. Collective.
std::vector<std::int64_t> measure_clock_offsets(World& world,
                                                const std::function<std::int64_t()>& now);

}  // namespace comet
