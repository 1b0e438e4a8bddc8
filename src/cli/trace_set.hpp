// SPDX-License-Identifier: Apache-2.0
// What `comet trace` and --svg of `comet bench` write: recorded calls with words about them.
#pragma once

#include <string>
#include <vector>

#include "cli/planned_bench.hpp"
#include "trace/timeline.hpp"

namespace comet::cli {

/// `rows` are what run_bench made of the case, which asked for recorded calls.
TimelineSet timeline_set(const PlannedBench& planned, const std::vector<BenchRow>& rows);

}  // namespace comet::cli
