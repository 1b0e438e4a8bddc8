// SPDX-License-Identifier: Apache-2.0
// Loads and stores with an order and a scope, and the clock that all of a GPU's kernels share.
#pragma once

#include <cstdint>

namespace comet::cuda {

/// Makes visible all that the thread which released the word had seen, on any GPU or host.
__device__ __forceinline__ std::uint32_t load_acquire_system(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// After a barrier of the block it also releases what the block's other threads wrote before it.
__device__ __forceinline__ void store_release_system(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// Orders nothing; sees what hosts and other GPUs write, sooner or later.
__device__ __forceinline__ std::uint32_t load_relaxed_system(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// Orders nothing; a later release of the thread makes it visible.
__device__ __forceinline__ void store_relaxed_system(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// Makes visible all that threads of this GPU which released the word had seen.
__device__ __forceinline__ std::uint32_t load_acquire_gpu(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// Orders nothing.
__device__ __forceinline__ std::uint32_t load_relaxed_gpu(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// Orders nothing.
__device__ __forceinline__ unsigned long long load_relaxed_gpu(const unsigned long long* word) {
  unsigned long long value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
}

/// Releases what the thread has written or seen, also by a barrier, to who acquires the word on this
/// GPU.
__device__ __forceinline__ void add_release_gpu(std::uint32_t* word, std::uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// Makes what relaxed loads before it have seen acquired, and relaxed writes after it release what
/// the thread has written or seen.
__device__ __forceinline__ void fence_acq_rel_gpu() {
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

/// Has relaxed writes after it release what the thread has written or seen; unlike
/// fence_acq_rel_gpu it leaves what the multiprocessor's L1 holds.
__device__ __forceinline__ void fence_release_gpu() {
  asm volatile("fence.release.gpu;" ::: "memory");
}

/// Orders nothing by itself; see the fences.
__device__ __forceinline__ void add_relaxed_gpu(std::uint32_t* word, std::uint32_t value) {
  asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// As add_release_gpu, and acquires what earlier adders released; returns the value before.
__device__ __forceinline__ std::uint32_t fetch_add_acq_rel_gpu(std::uint32_t* word,
                                                               std::uint32_t value) {
  std::uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(word), "r"(value)
               : "memory");
  return before;
}

/// Nanoseconds; ticks every 32 ns on an H100. Each GPU has a timer of its own, see
/// DeviceWorld::timer_origin_ns.
__device__ __forceinline__ unsigned long long global_timer() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

/// Whether `seen` is `epoch` or later. Epochs wrap; see has_reached in comm/world_view.hpp.
__device__ __forceinline__ bool is_epoch_reached(std::uint32_t seen, std::uint32_t epoch) {
  return static_cast<std::int32_t>(seen - epoch) >= 0;
}

/// True in the threads of the block that is the last of the grid to get here; it then sees what all
/// blocks wrote before, and `count` is 0 again. All threads of all blocks call it once. One block
/// needs no count.
__device__ inline bool is_last_block(std::uint32_t* count) {
  __shared__ bool is_last;
  if (gridDim.x == 1) {
    __syncthreads();
    return true;
  }
  __threadfence_system();  // what peers read of this block's writes is signalled by the last block
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(count, 1U) == gridDim.x - 1;
    if (is_last) *count = 0;
    __threadfence();
  }
  __syncthreads();
  return is_last;
}

}  // namespace comet::cuda
