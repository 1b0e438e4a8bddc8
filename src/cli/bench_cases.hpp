// SPDX-License-Identifier: Apache-2.0
// The flags of one case of `comet bench`, as the command line or a line of --cases has them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_flags.hpp"

namespace comet::cli {

struct BenchCaseFlags {
  BenchFlags flags;
  std::vector<ForwardOptions> choices;  ///< Of comet, each to be timed; empty: it is tuned.
  std::string suite = "bench";
  std::int64_t rounds = 5;
  std::int64_t warmup = 1;
};

/// All that a case may be asked for. `of` outlives the parsing.
void add_bench_case_flags(CLI::App& app, BenchCaseFlags& of);

/// Throws as plan_bench.
PlannedBench plan_bench_case(const BenchCaseFlags& of, const Ranks& ranks);

/// A line of --cases.
struct CaseLine {
  BenchCaseFlags of;
  std::string text;   ///< As it stands there.
  std::string place;  ///< The file and the line's number, for sentences.
};
/// Flags that add to or replace those of `base`, one case a line; # begins a comment. Throws
/// Error(invalid_argument) that names the line, Error(io).
std::vector<CaseLine> read_case_lines(const std::string& path, const BenchCaseFlags& base);

}  // namespace comet::cli
