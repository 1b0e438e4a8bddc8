// SPDX-License-Identifier: Apache-2.0
// Runs of eight elements of 16 bits and their sums, of whole numbers, so that every sum is exact.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace comet::cuda {

constexpr int kRunOf16Bits = 8;

template <typename T>
void add_run(float (&sum)[kRunOf16Bits], const uint4& run, float weight) {
  const std::uint32_t words[] = {run.x, run.y, run.z, run.w};
  for (int i = 0; i < kRunOf16Bits; ++i) {
    sum[i] += weight * static_cast<float>(words[i / 2] >> i % 2 * 16 & 0xffffU);
  }
}

template <typename T>
uint4 round_run(const float (&sum)[kRunOf16Bits]) {
  std::uint32_t words[4] = {};
  for (int i = 0; i < kRunOf16Bits; ++i) {
    // What is after a token's last entry may be anything, and is not stored.
    const auto element = static_cast<std::uint32_t>(static_cast<std::int64_t>(sum[i])) & 0xffffU;
    words[i / 2] |= element << i % 2 * 16;
  }
  return {words[0], words[1], words[2], words[3]};
}

template <typename T>
void store_run_unaligned(T* to, const uint4& run) {
  std::memcpy(to, &run, sizeof(run));
}

}  // namespace comet::cuda
