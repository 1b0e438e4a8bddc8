// SPDX-License-Identifier: Apache-2.0
// The rows of a timeline: who was busy with what, one worker or link direction at a time.
#pragma once

#include <string>
#include <vector>

#include "trace/timeline.hpp"

namespace comet {

struct TimelineRow {
  enum class Kind : std::uint8_t {
    worker,
    link_in,   ///< Into the rank: its pulls, and the pushes of others to it.
    link_out,  ///< Out of the rank.
  };
  Kind kind = Kind::worker;
  int rank = 0;
  int worker = -1;                      ///< Of Kind::worker.
  std::vector<TraceEvent> events = {};  ///< By begin; an event lies in the rows of both its ends.
};

/// A row per worker, then link in and link out if the timeline has transfers at all. Events of
/// ranks, workers or times that the timeline does not have throw Error(invalid_argument).
std::vector<TimelineRow> rows_of(const Timeline& timeline, int rank);

/// The row cut into rows without overlap. A transfer ends when the later of two clocks says so, so
/// its interval may overlap the next one's at the end that was ready earlier.
std::vector<TimelineRow> without_overlap(const TimelineRow& row);

/// Nanoseconds in which at least one event of the row runs.
std::int64_t busy_ns(const TimelineRow& row);

/// "worker 1", "link in" or "link out".
std::string row_name(const TimelineRow& row);

/// "worker 1", and what it begins with if the schedule has communication workers.
std::string role_of(const Timeline& timeline, int worker);

}  // namespace comet
