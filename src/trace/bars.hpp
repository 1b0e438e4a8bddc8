// SPDX-License-Identifier: Apache-2.0
// Bars: the events of a row as a picture can show them, tiny neighbours merged.
#pragma once

#include <cstdint>
#include <vector>

#include "trace/rows.hpp"

namespace comet {

struct Bar {
  double begin_px = 0;  ///< From the start of the timeline.
  double end_px = 0;
  int count = 1;          ///< Events merged into it.
  TraceEvent event = {};  ///< The event, or of merged ones the first of the kind with most time.
};

/// How time becomes pixels, and which events are too narrow to be drawn alone.
struct BarScale {
  std::int64_t zero_ns = 0;
  double ns_per_px = 1;
  double least_px = 0.5;
};

/// Bars by begin, without overlap. Events narrower than least_px that follow each other with gaps
/// below least_px become bars of about least_px, so a row of P pixels has at most about
/// 2 * P / least_px bars. Waits that follow each other so are one bar however long. No event is
/// lost: counts sum to the events, except that one hidden behind longer ones that began before
/// (which only transfers have) has no bar.
std::vector<Bar> bars_of(const TimelineRow& row, const BarScale& scale);

}  // namespace comet
