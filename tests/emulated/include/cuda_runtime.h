// SPDX-License-Identifier: Apache-2.0
// What the kernels that are emulated use of CUDA C++, so that a C++ compiler takes their sources as
// they are. Names and meanings are CUDA's (programming guide, C++ language extensions).
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "emulated/emulator.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// Of a block: its fibers share a thread of the host. What the block before has left is there, as on
// a GPU.
#define __shared__ thread_local
inline const comet::emulated::Index& threadIdx = comet::emulated::thread_index;
inline const comet::emulated::Index& blockIdx = comet::emulated::block_index;
inline const comet::emulated::Index& blockDim = comet::emulated::block_size;
inline const comet::emulated::Index& gridDim = comet::emulated::grid_size;

// What kernels declare as extern __shared__.
inline constexpr std::size_t kDynamicSharedBytes = 48 << 10;
namespace comet::cuda {
namespace {
[[maybe_unused]] thread_local std::int32_t
    dynamic_shared[kDynamicSharedBytes / sizeof(std::int32_t)];
}  // namespace
}  // namespace comet::cuda

using std::max;
using std::min;

struct uint4 {
  unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  dim3(unsigned of_x = 1) : x(of_x) {}
};

enum cudaLaunchAttributeID {
  cudaLaunchAttributeProgrammaticStreamSerialization,
  cudaLaunchAttributeClusterDimension
};
struct cudaLaunchAttributeValue {
  int programmaticStreamSerializationAllowed = 0;
  struct {
    unsigned x, y, z;
  } clusterDim = {1, 1, 1};
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

inline void cudaGridDependencySynchronize() { comet::emulated::wait_for_grids_before(); }
inline void cudaTriggerProgrammaticLaunchCompletion() {}

inline void __syncthreads() { comet::emulated::sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffU) { comet::emulated::exchange(mask, 0); }

// The value of another lane.
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  const unsigned source = static_cast<unsigned>(lane) % comet::emulated::kWarp;
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  word = comet::emulated::exchange(mask, word)[source];
  if ((mask >> source & 1U) == 0)
    comet::emulated::fail_thread("reads a lane that is not of the mask");
  std::memcpy(&value, &word, sizeof(T));
  return value;
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  const unsigned lane = threadIdx.x % comet::emulated::kWarp;
  return __shfl_sync(mask, value, static_cast<int>(lane >= delta ? lane - delta : lane));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return __shfl_sync(mask, value, static_cast<int>(threadIdx.x % comet::emulated::kWarp) ^ bits);
}
// Calls `visit` with each lane of the mask and what it has handed in.
template <typename Visit>
void for_each_lane(unsigned mask, unsigned value, Visit visit) {
  const auto& words = comet::emulated::exchange(mask, value);
  for (unsigned lane = 0; lane < comet::emulated::kWarp; ++lane) {
    if ((mask >> lane & 1U) != 0) visit(lane, static_cast<unsigned>(words[lane]));
  }
}
inline int __reduce_add_sync(unsigned mask, int value) {
  unsigned sum = 0;
  for_each_lane(mask, static_cast<unsigned>(value), [&](unsigned, unsigned word) { sum += word; });
  return static_cast<int>(sum);
}
inline int __reduce_min_sync(unsigned mask, int value) {
  int least = value;
  for_each_lane(mask, static_cast<unsigned>(value),
                [&](unsigned, unsigned word) { least = std::min(least, static_cast<int>(word)); });
  return least;
}
inline unsigned __match_any_sync(unsigned mask, int value) {
  const auto own = static_cast<unsigned>(value);
  unsigned same = 0;
  for_each_lane(mask, own,
                [&](unsigned lane, unsigned word) { same |= word == own ? 1U << lane : 0U; });
  return same;
}
inline unsigned __ballot_sync(unsigned mask, int is_set) {
  unsigned set = 0;
  for_each_lane(mask, is_set != 0 ? 1 : 0,
                [&](unsigned lane, unsigned word) { set |= word << lane; });
  return set;
}

inline int __any_sync(unsigned mask, int is_set) { return __ballot_sync(mask, is_set) != 0; }
inline int __all_sync(unsigned mask, int is_set) { return __ballot_sync(mask, is_set) == mask; }

inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __clz(int word) { return word == 0 ? 32 : __builtin_clz(static_cast<unsigned>(word)); }
inline unsigned __float_as_uint(float value) {
  unsigned word = 0;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}
inline float __uint_as_float(unsigned word) {
  float value = 0;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}
template <typename T>
T __ldcg(const T* from) {
  return *from;
}
template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
T __ldcv(const T* from) {
  return *from;
}
inline long long __double2ll_rn(double value) { return std::llrint(value); }
inline float __fdividef(float value, float by) { return value / by; }
inline float __expf(float value) { return std::exp(value); }
inline void __threadfence_system() {}
inline void __threadfence() {}
inline void __nanosleep(unsigned) { comet::emulated::let_others_go_on(); }
inline int __ffs(int word) { return __builtin_ffs(word); }

template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = std::max(before, value);
  return before;
}
template <typename T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = std::min(before, value);
  return before;
}
template <typename T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = before | value;
  return before;
}

template <typename T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = value;
  return before;
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T before = *at;
  if (before == expected) *at = value;
  return before;
}
template <typename T>
T atomicExch_system(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, value);
}
template <typename T>
T atomicAdd_system(T* at, std::type_identity_t<T> value) {
  return atomicAdd(at, value);
}
template <typename T>
T atomicMax_system(T* at, std::type_identity_t<T> value) {
  return atomicMax(at, value);
}

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  if (config->dynamicSmemBytes > kDynamicSharedBytes) return cudaErrorInvalidValue;
  bool follows_closely = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    // Clusters have no emulation.
    if (config->attrs[i].id != cudaLaunchAttributeProgrammaticStreamSerialization) {
      return cudaErrorInvalidValue;
    }
    follows_closely = config->attrs[i].val.programmaticStreamSerializationAllowed != 0;
  }
  comet::emulated::run_grid(config->gridDim.x, config->blockDim.x, follows_closely,
                            [&] { kernel(args...); });
  return cudaSuccess;
}
