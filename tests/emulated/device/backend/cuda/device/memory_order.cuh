// SPDX-License-Identifier: Apache-2.0
// Loads and stores with an order, where all memory is strongly ordered, and a clock that goes on as it is
// looked at.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace comet::cuda {

inline std::uint32_t load_acquire_system(const std::uint32_t* word) { return *word; }
inline void store_release_system(std::uint32_t* word, std::uint32_t value) { *word = value; }
inline void store_relaxed_system(std::uint32_t* word, std::uint32_t value) { *word = value; }
inline std::uint32_t load_relaxed_system(const std::uint32_t* word) { return *word; }
inline std::uint32_t load_relaxed_gpu(const std::uint32_t* word) { return *word; }
inline unsigned long long load_relaxed_gpu(const unsigned long long* word) { return *word; }
inline std::uint32_t load_acquire_gpu(const std::uint32_t* word) { return *word; }
inline void fence_release_gpu() {}
inline void fence_acq_rel_gpu() {}
inline void add_relaxed_gpu(std::uint32_t* word, std::uint32_t value) { *word += value; }
inline void add_release_gpu(std::uint32_t* word, std::uint32_t value) { *word += value; }
inline std::uint32_t fetch_add_acq_rel_gpu(std::uint32_t* word, std::uint32_t value) {
  const std::uint32_t before = *word;
  *word = before + value;
  return before;
}

inline unsigned long long emulated_timer = 0;
inline unsigned long long global_timer() { return emulated_timer += 40; }

inline bool is_epoch_reached(std::uint32_t seen, std::uint32_t epoch) {
  return static_cast<std::int32_t>(seen - epoch) >= 0;
}

inline bool is_last_block(std::uint32_t* count) {
  __shared__ bool is_last;
  __syncthreads();
  if (gridDim.x == 1) return true;
  if (threadIdx.x == 0) {
    is_last = atomicAdd(count, 1U) == gridDim.x - 1;
    if (is_last) *count = 0;
  }
  __syncthreads();
  return is_last;
}

}  // namespace comet::cuda
