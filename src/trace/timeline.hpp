// SPDX-License-Identifier: Apache-2.0
// Timeline: one recorded call of one schedule on all ranks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "comet/trace.hpp"

namespace comet {

struct Timeline {
  std::string name;  ///< Of the schedule.
  std::string note;  ///< How it was run, for example "2 groups"; may be empty.
  int num_ranks = 1;
  int num_workers = 1;        ///< Of each rank.
  int n_c_dispatch = 0;       ///< Workers that begin as communication workers; 0: all do both.
  int n_c_combine = 0;        ///< See n_c_dispatch.
  std::int64_t begin_ns = 0;  ///< When the first rank entered the call.
  std::int64_t end_ns = 0;    ///< When the last rank left it.
  Trace events = {};          ///< Of all ranks, in no particular order.

  std::int64_t duration_ns() const noexcept { return end_ns - begin_ns; }
  double milliseconds() const noexcept { return static_cast<double>(duration_ns()) * 1e-6; }
};

/// What one file or picture shows.
struct TimelineSet {
  std::string title;
  std::vector<std::string> captions;  ///< Lines below the title: shapes, ranks, link.
  std::vector<Timeline> timelines;
  std::vector<int> ranks = {};  ///< Those that are shown; empty shows all.

  /// Time of "sequential" if it is shown, else of the first; 0 without timelines.
  std::int64_t yardstick_ns() const noexcept {
    for (const Timeline& timeline : timelines) {
      if (timeline.name == "sequential") return timeline.duration_ns();
    }
    return timelines.empty() ? 0 : timelines.front().duration_ns();
  }
  /// 1 if a time is 0.
  double speedup(const Timeline& timeline) const noexcept {
    const std::int64_t yardstick = yardstick_ns(), time = timeline.duration_ns();
    return yardstick > 0 && time > 0 ? static_cast<double>(yardstick) / static_cast<double>(time)
                                     : 1.0;
  }
  bool shows(int rank) const {
    return ranks.empty() || std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
  }
};

}  // namespace comet
