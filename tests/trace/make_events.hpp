// SPDX-License-Identifier: Apache-2.0
// Hand-made events and timelines.
#pragma once

#include <utility>

#include "trace/timeline.hpp"

namespace comet {

inline TraceEvent make_event(TraceKind kind, int rank, int worker, std::int64_t begin_ns,
                             std::int64_t end_ns, int peer = -1) {
  TraceEvent event;
  event.kind = kind;
  event.rank = rank;
  event.worker = worker;
  event.begin_ns = begin_ns;
  event.end_ns = end_ns;
  event.peer = peer;
  return event;
}

/// From 1,000,000 ns on.
inline Timeline make_timeline(std::string name, int ranks, int workers, std::int64_t duration_ns,
                              Trace events = {}) {
  Timeline timeline;
  timeline.name = std::move(name);
  timeline.num_ranks = ranks;
  timeline.num_workers = workers;
  timeline.begin_ns = 1'000'000;
  timeline.end_ns = timeline.begin_ns + duration_ns;
  timeline.events = std::move(events);
  for (TraceEvent& event : timeline.events) {
    event.begin_ns += timeline.begin_ns;
    event.end_ns += timeline.begin_ns;
  }
  return timeline;
}

/// Two ranks, two workers: a pull that overlaps another on its way in, work, and a push.
inline Timeline small_timeline(std::string name, std::int64_t duration_ns = 1000) {
  using enum TraceKind;
  return make_timeline(
      std::move(name), 2, 2, duration_ns,
      {make_event(publish, 0, 0, 0, 50), make_event(plan, 0, 0, 50, 100),
       make_event(first_gemm, 0, 0, 100, 500), make_event(wait, 0, 1, 100, 300),
       make_event(link_pull, 0, 1, 120, 250, 1), make_event(pull, 0, 1, 300, 350, 1),
       make_event(link_pull, 0, 1, 200, 300, 1), make_event(second_gemm, 1, 0, 100, 600),
       make_event(link_push, 1, 1, 600, 700, 0), make_event(home_sum, 0, 0, 700, 700)});
}

}  // namespace comet
