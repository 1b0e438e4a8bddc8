// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM behind plain C functions, for gemm_rates.py. Functions return 0, or 1 and leave
// a sentence in comet_gemm_error.
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "backend/cuda/kernels/grouped_gemm.hpp"
#include "partitions.hpp"

// A launch of comet_gemm_launch: its handle, tiles and tile_range.
struct comet_gemm_work {
  const void* handle;
  const void* tiles;
  const std::int32_t* tile_range;
};

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

std::vector<comet::cuda::Launch> launches(const comet_gemm_work* works, int count) {
  std::vector<comet::cuda::Launch> result;
  for (const comet_gemm_work* work = works; work != works + count; ++work) {
    result.emplace_back([work](int num_blocks, cudaStream_t stream) {
      static_cast<const comet::cuda::GroupedGemm*>(work->handle)
          ->launch(static_cast<const comet::Tile*>(work->tiles), work->tile_range, nullptr,
                   {num_blocks, true}, comet::cuda::Follow::after_all, stream);
    });
  }
  return result;
}

}  // namespace

extern "C" {

const char* comet_gemm_error() { return last_error.c_str(); }

// a [row_slots, k], w13 or w [experts, gated ? 2 n : n, k] gate first, c [row_slots, n]: bfloat16.
int comet_gemm_create(std::int64_t experts, std::int32_t block_m, std::int64_t row_slots,
                      std::int64_t k, std::int64_t n, int gated, const void* a, const void* w,
                      void* c, void** handle) {
  using namespace comet;
  return guarded([&] {
    const GateLayout layout = gated != 0 ? GateLayout::gate_up : GateLayout::none;
    const MoeWeights weights = fused_weights(w, w, layout, n, k);
    *handle = new cuda::GroupedGemm({.num_experts = experts,
                                     .row_slots = row_slots,
                                     .block_m = block_m,
                                     .k = k,
                                     .n = n,
                                     .gated = gated != 0,
                                     .activated = gated != 0},
                                    a, weights.gate, weights.up, c);
  });
}

// tiles: comet::Tile, five int32 each: group, expert, rows, step, last block; tile_range: {first,
// end} of those to compute.
int comet_gemm_launch(const void* handle, const void* tiles, const std::int32_t* tile_range,
                      int num_blocks, void* stream) {
  return guarded([&] {
    static_cast<const comet::cuda::GroupedGemm*>(handle)->launch(
        static_cast<const comet::Tile*>(tiles), tile_range, nullptr, {num_blocks, true},
        comet::cuda::Follow::after_all, static_cast<cudaStream_t>(stream));
  });
}

void comet_gemm_destroy(void* handle) { delete static_cast<comet::cuda::GroupedGemm*>(handle); }

int comet_gemm_partitions_create(int count, int multiprocessors, void** handle) {
  return guarded([&] { *handle = new comet::cuda::Partitions(count, multiprocessors); });
}

// Runs work i of [count] on partition i, all at once, and waits.
int comet_gemm_partitions_run(const void* handle, const comet_gemm_work* works, int count) {
  return guarded(
      [&] { static_cast<const comet::cuda::Partitions*>(handle)->run(launches(works, count)); });
}

// Microseconds for each of the repetitions of all works: one after the other on the whole GPU, and
// all at once on a partition each.
int comet_gemm_partitions_time(const void* handle, const comet_gemm_work* works, int count,
                               int repetitions, float* whole_us, float* together_us) {
  return guarded([&] {
    const comet::cuda::PartitionTimes times =
        static_cast<const comet::cuda::Partitions*>(handle)->time(launches(works, count),
                                                                  repetitions);
    *whole_us = times.whole_us;
    *together_us = times.together_us;
  });
}

void comet_gemm_partitions_destroy(void* handle) {
  delete static_cast<comet::cuda::Partitions*>(handle);
}
}
