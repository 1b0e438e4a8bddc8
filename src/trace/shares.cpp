// SPDX-License-Identifier: Apache-2.0
#include "trace/shares.hpp"

#include <algorithm>

#include "trace/kinds.hpp"
#include "trace/rows.hpp"

namespace comet {

WorkerShares worker_shares(const Timeline& timeline) {
  const auto time = static_cast<double>(timeline.end_ns - timeline.begin_ns);
  WorkerShares shares{.wait = 1};
  if (time <= 0) return shares;
  const double whole = time * timeline.num_ranks * timeline.num_workers;
  for (const TraceEvent& event : timeline.events) {
    const double part = static_cast<double>(event.end_ns - event.begin_ns) / whole;
    const TraceClass of = style_of(event.kind).of;
    if (of == TraceClass::compute) shares.compute += part;
    if (of == TraceClass::copy) shares.copy += part;
    if (of == TraceClass::plan) shares.plan += part;
  }
  shares.wait = std::max(0.0, 1 - shares.compute - shares.copy - shares.plan);
  for (int rank = 0; rank < timeline.num_ranks; ++rank) {
    for (const TimelineRow& row : rows_of(timeline, rank)) {
      if (row.kind == TimelineRow::Kind::worker) continue;
      shares.busiest_link = std::max(shares.busiest_link, static_cast<double>(busy_ns(row)) / time);
    }
  }
  return shares;
}

}  // namespace comet
