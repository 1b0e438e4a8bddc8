// SPDX-License-Identifier: Apache-2.0
#include "call_trace.hpp"

#include <fmt/core.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <utility>

#include "trace/chrome_json.hpp"
#include "trace/timeline_svg.hpp"

namespace comet::python {

namespace nb = nanobind;

CallTrace::CallTrace(std::string schedule, std::string note, int workers,
                     const std::vector<Trace>& ranks) {
  Timeline call;
  call.name = std::move(schedule);
  call.note = std::move(note);
  call.num_ranks = static_cast<int>(ranks.size());
  call.num_workers = workers;
  for (const Trace& rank : ranks) {
    call.events.insert(call.events.end(), rank.begin(), rank.end());
  }
  if (!call.events.empty()) {
    const auto by_begin = [](const TraceEvent& a, const TraceEvent& b) {
      return a.begin_ns < b.begin_ns;
    };
    const auto by_end = [](const TraceEvent& a, const TraceEvent& b) {
      return a.end_ns < b.end_ns;
    };
    call.begin_ns = std::min_element(call.events.begin(), call.events.end(), by_begin)->begin_ns;
    call.end_ns = std::max_element(call.events.begin(), call.events.end(), by_end)->end_ns;
  }
  set_.title = fmt::format("{} on {} {} of this process", call.name, call.num_ranks,
                           call.num_ranks == 1 ? "rank" : "ranks");
  set_.timelines.push_back(std::move(call));
}

std::string CallTrace::svg() const { return timeline_svg(set_); }

void CallTrace::write_chrome_json(const std::string& path) const {
  comet::write_chrome_json(set_, path);
}

namespace {

nb::list events_of(const CallTrace& trace) {
  nb::list events;
  for (const TraceEvent& e : trace.events()) {
    const std::string kind(to_string(e.kind));
    events.append(nb::make_tuple(kind, e.rank, e.worker, e.begin_ns, e.end_ns, e.group, e.tile,
                                 e.panel, e.peer, e.block));
  }
  return events;
}

}  // namespace

void bind_call_trace(nb::module_& module) {
  nb::class_<CallTrace>(module, "CallTrace")
      .def_prop_ro("milliseconds", &CallTrace::milliseconds)
      .def_prop_ro("ranks", &CallTrace::ranks)
      .def_prop_ro("schedule", &CallTrace::schedule)
      .def("events", &events_of,
           "(kind, rank, worker, begin ns, end ns, group, tile, panel, peer, block) of each.")
      .def("svg", &CallTrace::svg)
      .def("write_chrome_json", &CallTrace::write_chrome_json, nb::arg("path"));
}

}  // namespace comet::python
