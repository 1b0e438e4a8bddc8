// SPDX-License-Identifier: Apache-2.0
// Thin wrappers of the PTX that Hopper kernels are written in: mbarriers, TMA, register budgets.
// What each orders is said where it orders something.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace comet::cuda {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Waits for `threads` threads of the block at hardware barrier `id`, 0 being that of __syncthreads.
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// mbarriers, named by their address in shared memory.

__device__ __forceinline__ void mbarrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Makes initialised barriers visible to TMA.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Arrives, and adds `bytes` of TMA traffic to what completes the phase.
__device__ __forceinline__ void mbarrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/// Releases this thread's earlier accesses to who waits for the phase.
__device__ __forceinline__ void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Blocks of a cluster.

__device__ __forceinline__ std::uint32_t rank_in_cluster() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ std::uint32_t blocks_of_cluster() {
  std::uint32_t blocks;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
}

/// Waits for all threads of the cluster, and sees what they have written. By whole warps.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// Where block `rank` of the cluster has what this block has at `address` of shared memory.
__device__ __forceinline__ std::uint32_t address_in_cluster(std::uint32_t address,
                                                            std::uint32_t rank) {
  std::uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}

/// Stores a word at an address_in_cluster.
__device__ __forceinline__ void store_in_cluster(std::uint32_t to, std::uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}

/// Loads a byte from an address_in_cluster.
__device__ __forceinline__ std::uint8_t load_byte_in_cluster(std::uint32_t from) {
  std::uint16_t value;
  asm volatile("ld.shared::cluster.u8 %0, [%1];" : "=h"(value) : "r"(from) : "memory");
  return static_cast<std::uint8_t>(value);
}

/// mbarrier_arrive at a barrier of any block of the cluster, at an address_in_cluster.
__device__ __forceinline__ void mbarrier_release_in_cluster(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier)
               : "memory");
}

/// The same for who has only read: it releases to the own block alone, as is the default, and so waits
/// for no store of the thread.
__device__ __forceinline__ void mbarrier_arrive_in_cluster(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Acquires what the phase of that parity released. Unbounded: only for barriers of a block's own
/// pipeline, whose phases depend on nothing outside the block but memory.
__device__ __forceinline__ void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{.reg .pred done;"
      "WAIT: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;"
      "@!done bra WAIT;}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Whether the phase of that parity is over; if so, acquires what it released. Does not wait.
__device__ __forceinline__ bool mbarrier_test(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{.reg .pred done;"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;"
      "selp.u32 %0, 1, 0, done;}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

/// mbarrier_test that acquires what any thread of the cluster has released.
__device__ __forceinline__ bool mbarrier_test_in_cluster(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{.reg .pred done;"
      "mbarrier.test_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;"
      "selp.u32 %0, 1, 0, done;}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

/// Box at (x, y), x the contiguous axis, to shared memory; its bytes count for `barrier`. Elements
/// outside of the tensor arrive as zeros and count too.
__device__ __forceinline__ void tma_load_2d(std::uint32_t to, const CUtensorMap* map, int x, int y,
                                            std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier)
      : "memory");
}

/// tma_load_2d to the same place of all blocks of the cluster in `mask`, each of whose own `barrier`
/// counts the bytes.
__device__ __forceinline__ void tma_load_2d_multicast(std::uint32_t to, const CUtensorMap* map, int x,
                                                      int y, std::uint32_t barrier,
                                                      std::uint16_t mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier), "h"(mask)
      : "memory");
}

/// `bytes` of global memory to shared memory by the copy engine of the multiprocessor; they count for
/// `barrier`. All addresses and sizes are multiples of 16.
__device__ __forceinline__ void bulk_load(std::uint32_t to, const void* from, std::uint32_t bytes,
                                          std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

/// 16 bytes of global memory to shared memory, in the thread's present group. Past L1, so nothing
/// older than what the thread has acquired.
__device__ __forceinline__ void async_load_16(std::uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Returns when at most PENDING of the thread's latest groups are not there yet; the thread may read
/// what it has loaded by the others.
template <int PENDING>
__device__ __forceinline__ void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void store_shared(std::uint32_t to, std::uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}

__device__ __forceinline__ void store_shared(std::uint32_t to, unsigned long long value) {
  asm volatile("st.shared.u64 [%0], %1;" ::"r"(to), "l"(value) : "memory");
}

/// Stores 16 bytes to a multiple of 16 in global memory if `stores`, without a branch.
__device__ __forceinline__ void store_global_if(bool stores, unsigned long long to,
                                                const uint4& value) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.u32 p, %5, 0;\n"
      "@p st.global.v4.u32 [%0], {%1, %2, %3, %4};\n}" ::"l"(to),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(stores ? 1 : 0)
      : "memory");
}

/// 16 bytes of shared memory.
__device__ __forceinline__ uint4 load_shared(std::uint32_t from) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(from)
               : "memory");
  return value;
}

/// `bytes` of shared memory to global memory, in the thread's present bulk group.
__device__ __forceinline__ void bulk_store(void* to, std::uint32_t from, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void bulk_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/// Returns when at most PENDING of the thread's bulk groups have not read their shared memory yet.
template <int PENDING>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

/// Returns when all of the thread's bulk groups have been written.
__device__ __forceinline__ void bulk_wait_all() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/// Orders accesses of the generic proxy and of the async proxy (TMA, bulk copies) to global memory.
__device__ __forceinline__ void fence_proxy_async_global() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

/// A tensor map in global memory was written by the generic proxy: acquires it for TMA.
__device__ __forceinline__ void tensor_map_acquire(const CUtensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

/// Register budget of the calling warpgroup, whose role must be one branch of one if/else. What comes
/// after that, of several roles, is compiled for the smallest of their budgets.
template <int REGISTERS>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

}  // namespace comet::cuda
