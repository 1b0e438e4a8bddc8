// SPDX-License-Identifier: Apache-2.0
#include "trace/rows.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "trace/kinds.hpp"

namespace comet {
namespace {

bool is_link(const TraceEvent& event) { return style_of(event.kind).of == TraceClass::link; }

// Rank at the receiving end of a transfer, or at the sending one.
int receiver(const TraceEvent& event) {
  return event.kind == TraceKind::link_pull ? event.rank : event.peer;
}
int sender(const TraceEvent& event) {
  return event.kind == TraceKind::link_pull ? event.peer : event.rank;
}

void check_event(const Timeline& timeline, const TraceEvent& event) {
  const bool fits = event.rank >= 0 && event.rank < timeline.num_ranks && event.worker >= 0 &&
                    event.worker < timeline.num_workers && event.peer < timeline.num_ranks &&
                    (!is_link(event) || event.peer >= 0);
  check(fits, ErrorCode::invalid_argument,
        "[trace] {} of rank {} worker {} with rank {}: the timeline has {} ranks of {} workers",
        to_string(event.kind), event.rank, event.worker, event.peer, timeline.num_ranks,
        timeline.num_workers);
  check(event.begin_ns >= timeline.begin_ns && event.end_ns >= event.begin_ns &&
            event.end_ns <= timeline.end_ns,
        ErrorCode::invalid_argument,
        "[trace] {} of rank {} worker {} from {} to {} ns: not an interval of {} to {} ns",
        to_string(event.kind), event.rank, event.worker, event.begin_ns, event.end_ns,
        timeline.begin_ns, timeline.end_ns);
}

}  // namespace

std::vector<TimelineRow> rows_of(const Timeline& timeline, int rank) {
  std::vector<TimelineRow> rows;
  for (int worker = 0; worker < timeline.num_workers; ++worker) {
    rows.push_back({.kind = TimelineRow::Kind::worker, .rank = rank, .worker = worker});
  }
  const bool has_link = std::any_of(timeline.events.begin(), timeline.events.end(), is_link);
  if (has_link) {
    rows.push_back({.kind = TimelineRow::Kind::link_in, .rank = rank});
    rows.push_back({.kind = TimelineRow::Kind::link_out, .rank = rank});
  }
  for (const TraceEvent& event : timeline.events) {
    check_event(timeline, event);
    if (!is_link(event)) {
      if (event.rank == rank) rows[static_cast<std::size_t>(event.worker)].events.push_back(event);
      continue;
    }
    if (receiver(event) == rank) rows[rows.size() - 2].events.push_back(event);
    if (sender(event) == rank) rows.back().events.push_back(event);
  }
  for (TimelineRow& row : rows) {
    std::stable_sort(
        row.events.begin(), row.events.end(), [](const TraceEvent& a, const TraceEvent& b) {
          return a.begin_ns != b.begin_ns ? a.begin_ns < b.begin_ns : a.end_ns < b.end_ns;
        });
  }
  return rows;
}

std::vector<TimelineRow> without_overlap(const TimelineRow& row) {
  TimelineRow empty = row;
  empty.events.clear();
  std::vector<TimelineRow> rows = {empty};
  for (const TraceEvent& event : row.events) {
    const auto free = std::find_if(rows.begin(), rows.end(), [&](const TimelineRow& r) {
      return r.events.empty() || r.events.back().end_ns <= event.begin_ns;
    });
    (free != rows.end() ? *free : rows.emplace_back(empty)).events.push_back(event);
  }
  return rows;
}

std::int64_t busy_ns(const TimelineRow& row) {
  if (row.events.empty()) return 0;
  std::int64_t busy = 0;
  std::int64_t until = row.events.front().begin_ns;
  for (const TraceEvent& event : row.events) {
    busy += std::max<std::int64_t>(0, event.end_ns - std::max(event.begin_ns, until));
    until = std::max(until, event.end_ns);
  }
  return busy;
}

std::string row_name(const TimelineRow& row) {
  if (row.kind == TimelineRow::Kind::worker) return fmt::format("worker {}", row.worker);
  return row.kind == TimelineRow::Kind::link_in ? "link in" : "link out";
}

std::string role_of(const Timeline& timeline, int worker) {
  const auto communicates = [&](int n_c) { return worker >= timeline.num_workers - n_c; };
  std::string name = fmt::format("worker {}", worker);
  if (timeline.n_c_dispatch <= 0 && timeline.n_c_combine <= 0) return name;
  const bool dispatch = communicates(timeline.n_c_dispatch);
  const bool combine = communicates(timeline.n_c_combine);
  if (dispatch && combine) return name + " (communication)";
  if (dispatch) return name + " (communication in dispatch)";
  if (combine) return name + " (communication in combine)";
  return name + " (compute)";
}

}  // namespace comet
