// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM behind plain C functions, for gemm_rates.py. Functions return 0, or 1 and leave
// a sentence in comet_gemm_error.
#include <cstdint>
#include <exception>
#include <string>

#include "backend/cuda/kernels/grouped_gemm.hpp"

namespace {

thread_local std::string last_error;

template <typename Function>
int guarded(const Function& function) {
  try {
    function();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace

extern "C" {

const char* comet_gemm_error() { return last_error.c_str(); }

int comet_gemm_block_m() { return comet::cuda::kGemmBlockM; }

// a [row_slots, k], w13 or w [experts, gated ? 2 n : n, k] gate first, c [row_slots, n]: bfloat16.
int comet_gemm_create(std::int64_t experts, std::int64_t row_slots, std::int64_t k, std::int64_t n,
                      int gated, const void* a, const void* w, void* c, void** handle) {
  using namespace comet;
  return guarded([&] {
    const GateLayout layout = gated != 0 ? GateLayout::gate_up : GateLayout::none;
    const MoeWeights weights = fused_weights(w, w, layout, n, k);
    *handle = new cuda::GroupedGemm({.num_experts = experts,
                                     .row_slots = row_slots,
                                     .k = k,
                                     .n = n,
                                     .gated = gated != 0,
                                     .activated = gated != 0},
                                    a, weights.gate, weights.up, c);
  });
}

// tiles: comet::Tile [*num_tiles], five int32 each: group, expert, rows, step, last block.
int comet_gemm_launch(const void* handle, const void* tiles, const std::int32_t* num_tiles,
                      int num_blocks, void* stream) {
  return guarded([&] {
    static_cast<const comet::cuda::GroupedGemm*>(handle)->launch(
        static_cast<const comet::Tile*>(tiles), num_tiles, nullptr, num_blocks,
        static_cast<cudaStream_t>(stream));
  });
}

void comet_gemm_destroy(void* handle) { delete static_cast<comet::cuda::GroupedGemm*>(handle); }
}
