// SPDX-License-Identifier: Apache-2.0
// TraceSpan: records one interval of a trace from construction to destruction.
#pragma once

#include <chrono>

#include "comet/trace.hpp"

namespace comet {

/// Nanoseconds of the clock that traces use.
inline std::int64_t trace_now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// With a null trace it does nothing, and reads no clock.
class TraceSpan {
 public:
  TraceSpan(Trace* trace, const TraceEvent& event) : trace_(trace), event_(event) {
    if (trace_ != nullptr) event_.begin_ns = trace_now_ns();
  }
  ~TraceSpan() {
    if (trace_ == nullptr) return;
    event_.end_ns = trace_now_ns();
    try {
      trace_->push_back(event_);
    } catch (...) {  // out of memory: the trace lacks an interval, the call is unharmed
    }
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  Trace* trace_;
  TraceEvent event_;
};

}  // namespace comet
