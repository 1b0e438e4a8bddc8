// SPDX-License-Identifier: Apache-2.0
// What `comet bench` prints: rows as text.
#pragma once

#include <string>
#include <vector>

#include "cli/bench_scale.hpp"
#include "measure/bench_case.hpp"

namespace comet::cli {

/// The case in words: shape, world, link. A line each, without its line break.
std::vector<std::string> case_lines(const BenchCase& bench, const Divisors& divisors,
                                    const BenchRow& row);

/// The case in words, its times that no schedule changes, and one line per schedule.
std::string bench_text(const BenchCase& bench, const Divisors& divisors,
                       const std::vector<BenchRow>& rows);

}  // namespace comet::cli
