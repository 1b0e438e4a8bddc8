// SPDX-License-Identifier: Apache-2.0
// Runs of eight 16-bit elements, 16 bytes, and their sums in float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace comet::cuda {

constexpr int kRunOf16Bits = 8;

template <typename T>
__device__ __forceinline__ float2 to_float2(std::uint32_t pair);

template <>
__device__ __forceinline__ float2 to_float2<__nv_bfloat16>(std::uint32_t pair) {
  // An instruction each; the intrinsic takes three for both.
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U)};
}

template <>
__device__ __forceinline__ float2 to_float2<__half>(std::uint32_t pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

/// Rounds to nearest, ties to even.
template <typename T>
__device__ __forceinline__ std::uint32_t to_pair(float low, float high);

template <>
__device__ __forceinline__ std::uint32_t to_pair<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

template <>
__device__ __forceinline__ std::uint32_t to_pair<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// `from` is aligned to 16 bytes.
template <typename T>
__device__ __forceinline__ uint4 load_run(const T* from) {
  return *reinterpret_cast<const uint4*>(from);
}

template <typename T>
__device__ __forceinline__ void store_run(T* to, const uint4& run) {
  *reinterpret_cast<uint4*>(to) = run;
}

/// `to` is aligned to 2 bytes.
template <typename T>
__device__ __forceinline__ void store_run_unaligned(T* to, const uint4& run) {
  if ((reinterpret_cast<std::uintptr_t>(to) & 15U) == 0) return store_run(to, run);
  const std::uint32_t words[] = {run.x, run.y, run.z, run.w};
  auto* halves = reinterpret_cast<std::uint16_t*>(to);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    halves[2 * i] = static_cast<std::uint16_t>(words[i]);
    halves[2 * i + 1] = static_cast<std::uint16_t>(words[i] >> 16);
  }
}

/// sum += weight * run, each by one fused multiply-add.
template <typename T>
__device__ __forceinline__ void add_run(float (&sum)[kRunOf16Bits], const uint4& run,
                                        float weight) {
  const std::uint32_t words[] = {run.x, run.y, run.z, run.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = to_float2<T>(words[i]);
    sum[2 * i] = fmaf(weight, pair.x, sum[2 * i]);
    sum[2 * i + 1] = fmaf(weight, pair.y, sum[2 * i + 1]);
  }
}

/// Of a pair, -0 becomes +0 and all else stays.
template <typename T>
__device__ __forceinline__ std::uint32_t add_zero(std::uint32_t pair);

template <>
__device__ __forceinline__ std::uint32_t add_zero<__nv_bfloat16>(std::uint32_t pair) {
  constexpr std::uint32_t kZeros = 0;
  const __nv_bfloat162 sum = __hadd2_rn(*reinterpret_cast<const __nv_bfloat162*>(&pair),
                                        *reinterpret_cast<const __nv_bfloat162*>(&kZeros));
  return *reinterpret_cast<const std::uint32_t*>(&sum);
}

template <>
__device__ __forceinline__ std::uint32_t add_zero<__half>(std::uint32_t pair) {
  constexpr std::uint32_t kZeros = 0;
  const __half2 sum = __hadd2_rn(*reinterpret_cast<const __half2*>(&pair),
                                 *reinterpret_cast<const __half2*>(&kZeros));
  return *reinterpret_cast<const std::uint32_t*>(&sum);
}

/// Rounds as to_pair does, a tiny negative sum to +0: that is what y holds of it whether the sum is
/// y or one of the partial sums that are added up from 0.
template <typename T>
__device__ __forceinline__ uint4 round_run(const float (&sum)[kRunOf16Bits]) {
  return make_uint4(
      add_zero<T>(to_pair<T>(sum[0], sum[1])), add_zero<T>(to_pair<T>(sum[2], sum[3])),
      add_zero<T>(to_pair<T>(sum[4], sum[5])), add_zero<T>(to_pair<T>(sum[6], sum[7])));
}

}  // namespace comet::cuda
