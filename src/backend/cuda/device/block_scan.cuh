// SPDX-License-Identifier: Apache-2.0
// Prefix sums over the threads of a warp or a block, of several values at once.
#pragma once

#include <cstdint>

namespace comet::cuda {

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffU;

// Values that are summed side by side.
template <int kCount>
struct Sums {
  std::int32_t v[kCount];
};

template <int kCount>
__device__ inline Sums<kCount> operator+(Sums<kCount> a, const Sums<kCount>& b) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) a.v[i] += b.v[i];
  return a;
}

template <int kCount>
__device__ inline Sums<kCount> operator-(Sums<kCount> a, const Sums<kCount>& b) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) a.v[i] -= b.v[i];
  return a;
}

// Over the lanes before this one and itself; right in the first kLanes of them. Rolled up, since the
// plan of a few tokens takes as long as its instructions take to come from memory.
template <int kLanes, int kCount>
__device__ inline Sums<kCount> warp_inclusive(Sums<kCount> sum) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll 1
  for (int distance = 1; distance < kLanes; distance *= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const std::int32_t below = __shfl_up_sync(kFullWarp, sum.v[i], distance);
      if (lane >= distance) sum.v[i] += below;
    }
  }
  return sum;
}

// Sum over the threads before this one, and over all to `total`. All kThreads threads of the block
// call it.
template <int kThreads, int kCount>
__device__ inline Sums<kCount> block_exclusive(const Sums<kCount>& mine, Sums<kCount>& total) {
  constexpr int kWarps = kThreads / kWarp;
  static_assert(kThreads % kWarp == 0 && kWarps <= kWarp);
  __shared__ Sums<kCount> warp_sums[kWarps];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const Sums<kCount> in_warp = warp_inclusive<kWarp>(mine);
  if (lane == kWarp - 1) warp_sums[warp] = in_warp;
  __syncthreads();
  Sums<kCount> of_warp{};
  if (lane < kWarps) of_warp = warp_sums[lane];
  const Sums<kCount> up_to_warp = warp_inclusive<kWarps>(of_warp);
  const Sums<kCount> below_warp = up_to_warp - of_warp;
  Sums<kCount> before;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    total.v[i] = __shfl_sync(kFullWarp, up_to_warp.v[i], kWarps - 1);
    before.v[i] = __shfl_sync(kFullWarp, below_warp.v[i], warp);
  }
  __syncthreads();  // the next call writes warp_sums
  return before + in_warp - mine;
}

// Largest `mine` of all threads of the block, which call it together.
__device__ inline std::int32_t block_max(std::int32_t mine) {
  __shared__ std::int32_t largest;
  if (threadIdx.x == 0) largest = mine;
  __syncthreads();
  atomicMax(&largest, mine);
  __syncthreads();
  mine = largest;
  __syncthreads();  // the next call writes it
  return mine;
}

}  // namespace comet::cuda
