// SPDX-License-Identifier: Apache-2.0
// What the tuning pass of a benchmark tries. pipelined and comet get the same choice of
// communication workers; pipelined's degree stands where comet has its groups.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comet/layer.hpp"
#include "measure/bench_case.hpp"

namespace comet {

/// Numbers of communication workers worth trying: none (all do both), one, and half.
std::vector<int> worker_splits(int num_workers);

/// Options to try for `schedule`, most promising first; one entry if nothing is left to choose.
/// `groups` are those to try for comet.
std::vector<ForwardOptions> tune_candidates(const BenchCase& bench, Schedule schedule,
                                            int num_workers, std::int64_t panel,
                                            std::span<const std::int64_t> groups);

}  // namespace comet
