// SPDX-License-Identifier: Apache-2.0
// comet bench --demo: three models in small, sized to end in under a minute on two cores.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/planned_bench.hpp"

namespace comet::cli {

/// What is about to be shown, in words.
std::string demo_introduction();

/// One of them is drawn.
std::vector<PlannedBench> demo_benches(std::uint64_t seed);

}  // namespace comet::cli
