// SPDX-License-Identifier: Apache-2.0
// A case that takes milliseconds.
#pragma once

#include "measure/bench_case.hpp"

namespace comet {

/// 5 experts, top-2, H = 32, I = 48, 150 tokens on 2 ranks.
inline BenchCase small_bench() {
  BenchCase bench;
  bench.desc = {.num_experts = 5, .topk = 2, .hidden = 32, .intermediate = 48};
  bench.parallel = {.ep = 2, .tp = 1};
  bench.tokens = 150;
  bench.rounds = 3;
  return bench;
}

}  // namespace comet
