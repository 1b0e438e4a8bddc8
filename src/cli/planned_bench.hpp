// SPDX-License-Identifier: Apache-2.0
// PlannedBench: a case of `comet bench` or `comet trace`, ready to run.
#pragma once

#include "cli/bench_scale.hpp"
#include "measure/bench_case.hpp"

namespace comet::cli {

struct PlannedBench {
  BenchCase bench;
  Divisors divisors;      ///< What its model was divided by.
  bool is_drawn = false;  ///< Whether --svg of `comet bench` shows it.
};

}  // namespace comet::cli
