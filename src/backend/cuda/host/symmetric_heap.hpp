// SPDX-License-Identifier: Apache-2.0
// SymmetricHeap: NVSHMEM's memory as the worlds of a process use it, one after the other.
#pragma once

#include <cstddef>

#include "backend/cuda/nvshmem/nvshmem_job.hpp"
#include "comm/device_memory.hpp"
#include "comm/device_ranks.hpp"
#include "comm/process/symmetric_pool.hpp"

namespace comet::cuda {

/// Knows what is free of the memory that NVSHMEM has from the GPU, since nvshmem_malloc has to be
/// asked for more by all processes or by none: one whose GPU is full leaves the others waiting for
/// ever. So all of NVSHMEM's heap that it does not use itself is taken at once, and what the pool
/// cannot give comes in whole granules, which are what the heap grows by.
class SymmetricHeap {
 public:
  /// Collective: takes what NVSHMEM has left of its first granule. `sharers` ranks have their
  /// memory on this GPU.
  SymmetricHeap(NvshmemJob& job, const ProcessDeviceOptions& options, int sharers);

  NvshmemJob& job() const noexcept { return job_; }
  /// What allocate(bytes) would take now.
  DeviceMemory memory_for(std::size_t bytes) const;
  /// Collective, after check_memory: memory with any content at the same place on every rank, or
  /// null.
  std::byte* allocate(std::size_t bytes);
  /// Of what allocate gave; all ranks do the same in the same order.
  void release(std::byte* memory) { pool_.release(memory); }

  /// What a start of NVSHMEM takes.
  static DeviceMemory memory_to_start(int sharers);

 private:
  NvshmemJob& job_;
  int sharers_;
  SymmetricPool pool_;
};

}  // namespace comet::cuda
