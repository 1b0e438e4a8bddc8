// SPDX-License-Identifier: Apache-2.0
// What `comet check` prints: failed cases with the command that runs them again, and one last line.
#pragma once

#include <string>
#include <vector>

#include "check/run_checks.hpp"

namespace comet::cli {

/// Names separated by commas; throws Error(invalid_argument) on an unknown one or an empty list.
std::vector<Schedule> parse_schedules(const std::string& text);

/// `schedules` is the flag's text, empty if not given.
std::string check_text(const CheckOptions& options, const std::string& schedules,
                       const CheckSummary& summary);

/// The same as one JSON object and a line break: cases, world, ranks (the most of any case),
/// fewest_ranks, backend, seed, first_index, calls, faults, largest_error (of its bound), failures.
std::string check_json(const CheckOptions& options, const std::string& schedules,
                       const CheckSummary& summary);

}  // namespace comet::cli
