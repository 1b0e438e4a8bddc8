// SPDX-License-Identifier: Apache-2.0
// Timelines in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "trace/timeline.hpp"

namespace comet {

/// Takes the next piece of a text.
using TextSink = std::function<void(std::string_view)>;

/// One JSON object. Each schedule's rank is a process, pid = 1000 * (1 + schedule) + rank, and each
/// worker or link direction a thread; all schedules begin at time 0. Transfers that overlap on one
/// direction go to threads of their own, because intervals of a thread must nest. Throws
/// Error(invalid_argument) on 1000 ranks or more and on events that do not fit their timeline.
void stream_chrome_json(const TimelineSet& set, const TextSink& sink);

/// The same to a file that appears whole or not at all. Throws Error(io).
void write_chrome_json(const TimelineSet& set, const std::filesystem::path& path);

}  // namespace comet
