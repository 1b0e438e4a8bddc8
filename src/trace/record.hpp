// SPDX-License-Identifier: Apache-2.0
// Records calls of a benchmark's schedules as timelines.
#pragma once

#include <vector>

#include "measure/bench_case.hpp"
#include "trace/timeline.hpp"

namespace comet {

/// Runs each row's schedule with the row's options, tile and link on a new in-process world: a call
/// to warm up, then three recorded ones, of which the one with the median time is returned. `rows`
/// are what run_bench made of `bench`, so the options are tuned and the rate of an auto link is
/// known. Throws Error(invalid_argument) for no rows and for Schedule::reference, which records no
/// work, and Error(internal) if two schedules give different bits.
std::vector<Timeline> record_timelines(const BenchCase& bench, const std::vector<BenchRow>& rows);

}  // namespace comet
