// SPDX-License-Identifier: Apache-2.0
// Comparisons of what a run gave with what it should have given. Each returns an empty string or a
// sentence with coordinates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "check/execute.hpp"
#include "check/oracle.hpp"

namespace comet {

/// Where an output comes from, for the sentence.
struct Place {
  const std::string& label;
  std::int64_t rank;
};

/// No error was thrown, and the padding between the rows of y is untouched.
std::string judge_clean(const Place& place, const RankCall& call, const RunOutput& output);

/// Every element within its bound. Raises `worst_ratio` to the largest error / bound seen.
std::string judge_bound(const Place& place, const RankCall& call, const RunOutput& output,
                        const OracleResult& oracle, double& worst_ratio);

/// Bit for bit equal.
std::string judge_bits(const Place& place, const RankCall& call, const RunOutput& output,
                       const RunOutput& expected, const std::string& expected_label);

/// Every element of y NaN.
std::string judge_nan(const Place& place, const RankCall& call, const RunOutput& output);

/// Rows and link bytes of all ranks [W] against what routing and placement imply: a token travels
/// once to each rank that holds one of its experts, and one partial sum travels back.
std::string judge_stats(const Case& c, const std::string& label, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs);

/// The same over all ranks of a run, until the first failure. judge_run: errors, padding, and stats
/// if `check_stats`; judge_truth: bounds; judge_equal: bits.
std::string judge_run(const Case& c, const Run& run, const std::vector<RankCall>& ranks,
                      const std::vector<RunOutput>& outputs, bool check_stats);
std::string judge_truth(const Run& run, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs,
                        const std::vector<OracleResult>& truth, double& worst_ratio);
std::string judge_equal(const Run& run, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs,
                        const std::vector<RunOutput>& expected, const std::string& expected_label);

}  // namespace comet
