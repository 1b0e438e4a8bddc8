// SPDX-License-Identifier: Apache-2.0
// What all ranks did in one call, as Python shows it.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

#include "trace/timeline.hpp"

namespace comet::python {

class CallTrace {
 public:
  /// `ranks` are the events of each rank; `workers` its threads.
  CallTrace(std::string schedule, std::string note, int workers, const std::vector<Trace>& ranks);

  double milliseconds() const noexcept { return set_.timelines.front().milliseconds(); }
  const Trace& events() const noexcept { return set_.timelines.front().events; }
  int ranks() const noexcept { return set_.timelines.front().num_ranks; }
  const std::string& schedule() const noexcept { return set_.timelines.front().name; }

  std::string svg() const;
  /// For Perfetto and chrome://tracing.
  void write_chrome_json(const std::string& path) const;

 private:
  TimelineSet set_;
};

/// Adds the class `Trace` to the module.
void bind_call_trace(nanobind::module_& module);

}  // namespace comet::python
