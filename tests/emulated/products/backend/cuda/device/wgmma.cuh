// SPDX-License-Identifier: Apache-2.0
// wgmma, emulated: each thread computes its part as soon as it asks for it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/device/ptx.cuh"

namespace comet::cuda {

/// The address in units of 16 bytes; adding 2 moves 16 elements on.
inline std::uint64_t wgmma_descriptor(std::uint32_t address) {
  if (address % 1024 != 0) emulated::fail_thread("a tile between two atoms of the swizzle");
  return address / 16;
}
inline void wgmma_fence() {}
inline void wgmma_commit() {}
// The lanes of a warp do it together.
template <int PENDING>
void wgmma_wait() {
  __syncwarp();
}

/// 16 elements of row `row` of a tile.
template <typename ELEMENT>
void read_row(std::uint64_t tile, int row, float (&values)[16]) {
  for (std::uint32_t piece = 0; piece < 2; ++piece) {
    const std::uint32_t plain = static_cast<std::uint32_t>(tile) * 16 +
                                static_cast<std::uint32_t>(row) * 128 + piece * 16;
    const std::byte* from = product_memory.at(plain ^ (plain / 128 % 8 * 16), 16);
    ELEMENT elements[8];
    std::memcpy(elements, from, sizeof(elements));
    for (int i = 0; i < 8; ++i) values[piece * 8 + i] = to_float(elements[i]);
  }
}

template <int N, typename ELEMENT>
void wgmma(float (&d)[128], std::uint64_t a, std::uint64_t b, bool accumulate) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  float rows[2][16];
  for (int half = 0; half < 2; ++half) {
    read_row<ELEMENT>(a, thread / 32 * 16 + thread % 32 / 4 + 8 * half, rows[half]);
  }
  for (int i = 0; i < N / 8; ++i) {
    for (int next = 0; next < 2; ++next) {
      float column[16];
      read_row<ELEMENT>(b, 8 * i + thread % 4 * 2 + next, column);
      for (int half = 0; half < 2; ++half) {
        float& sum = d[4 * i + 2 * half + next];
        if (!accumulate) sum = 0;
        for (int k = 0; k < 16; ++k) sum += rows[half][k] * column[k];
      }
    }
  }
}

}  // namespace comet::cuda
