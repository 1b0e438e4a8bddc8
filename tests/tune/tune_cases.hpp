// SPDX-License-Identifier: Apache-2.0
// Cases that tests of the tuner share.
#pragma once

#include "tune/tune_case.hpp"

namespace comet {

/// Mixtral on 8 ranks that share a GPU of 128 usable multiprocessors.
inline TuneCase shared_gpu_case(std::int64_t tokens = 8192, const char* link = "paced:20") {
  TuneCase of;
  of.model = "mixtral-8x7b";
  of.desc = {
      .num_experts = 8, .topk = 2, .hidden = 4096, .intermediate = 14336, .dtype = DType::bf16};
  of.parallel = {.ep = 8, .tp = 1};
  of.tokens = tokens;
  of.backend = Backend::cuda;
  of.link = parse_link(link);
  of.workers = 16;
  of.ranks_per_device = 8;
  return of;
}

/// A small layer on 2 ranks of a CPU.
inline TuneCase cpu_case(std::int64_t tokens = 512) {
  TuneCase of;
  of.desc = {.num_experts = 8, .topk = 2, .hidden = 128, .intermediate = 256};
  of.parallel = {.ep = 2, .tp = 1};
  of.tokens = tokens;
  of.workers = 1;
  of.ranks_per_device = 2;
  return of;
}

}  // namespace comet
