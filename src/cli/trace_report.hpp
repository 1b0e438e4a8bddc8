// SPDX-License-Identifier: Apache-2.0
// What `comet trace` prints.
#pragma once

#include <string>

#include "trace/timeline.hpp"

namespace comet::cli {

/// The captions, and a line per schedule: its time and what the workers' time went into.
std::string trace_text(const TimelineSet& set);

}  // namespace comet::cli
