// SPDX-License-Identifier: Apache-2.0
// Timelines of the calls that a benchmark recorded.
#pragma once

#include <vector>

#include "measure/bench_case.hpp"
#include "trace/timeline.hpp"

namespace comet {

/// One per row, in their order, without Schedule::reference, which records no work. `rows` are what
/// run_bench made of `bench`, which asked for recorded calls. Throws Error(invalid_argument) if it
/// did not.
std::vector<Timeline> bench_timelines(const BenchCase& bench, const std::vector<BenchRow>& rows);

}  // namespace comet
