// SPDX-License-Identifier: Apache-2.0
// comet bench --demo: three models in small, sized to end in under a minute on two cores.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_scale.hpp"
#include "measure/bench_case.hpp"

namespace comet::cli {

/// A case and what its model was divided by.
struct PlannedBench {
  BenchCase bench;
  Divisors divisors;
};

/// What is about to be shown, in words.
std::string demo_introduction();

std::vector<PlannedBench> demo_benches(std::uint64_t seed);

}  // namespace comet::cli
