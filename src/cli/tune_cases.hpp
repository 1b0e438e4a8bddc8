// SPDX-License-Identifier: Apache-2.0
// The cases that `comet tune` is asked for: one, a grid, or those that calibration needs.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/bench_flags.hpp"
#include "measure/bench_case.hpp"

namespace comet::cli {

struct TuneGridFlags {
  std::vector<std::string> models;  ///< Empty here and below: the case flags' own.
  std::vector<std::int64_t> tokens;
  std::vector<ParallelDesc> splits;
  std::vector<LinkSpec> links;

  bool is_empty() const {
    return models.empty() && tokens.empty() && splits.empty() && links.empty();
  }
};
void add_grid_flags(CLI::App& app, TuneGridFlags& flags);

/// Every combination of the grid; what it leaves open is as `base` says. Throws
/// Error(invalid_argument).
std::vector<BenchCase> grid_cases(const BenchFlags& base, const TuneGridFlags& grid,
                                  const Ranks& ranks);

/// Two shapes, by expert and by tensor parallelism, without a link and with a slow one. Of `base`
/// backend, world, dtype and seed count; a world of one rank stands for 2 ranks on cpu and 8 on
/// cuda.
std::vector<BenchCase> calibration_cases(const BenchFlags& base, const Ranks& ranks);

}  // namespace comet::cli
