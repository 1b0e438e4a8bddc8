// SPDX-License-Identifier: Apache-2.0
// What the tuning pass of a benchmark tries. pipelined and comet get the same choice of
// communication workers; pipelined's degree stands where comet has its groups. Panels are for
// overlap: where nothing overlaps within a stage, whole rows may be faster and are tried too.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/layer.hpp"
#include "measure/bench_case.hpp"

namespace comet {

/// What candidates of a schedule may differ in.
struct TuneSpace {
  int num_workers = 1;               ///< cuda: multiprocessors of the rank.
  std::vector<std::int64_t> panels;  ///< Columns.
  std::vector<std::int64_t> groups;  ///< Of comet.
};

/// Options to try for `schedule`; one entry if nothing is left to choose.
std::vector<ForwardOptions> tune_candidates(const BenchCase& bench, Schedule schedule,
                                            const TuneSpace& space);

}  // namespace comet
