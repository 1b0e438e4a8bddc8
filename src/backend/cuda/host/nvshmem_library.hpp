// SPDX-License-Identifier: Apache-2.0
// NVSHMEM in this process: the plugin, and the one set of processes that it is started for.
#pragma once

#include <functional>

#include "backend/cuda/host/symmetric_heap.hpp"
#include "comm/device_ranks.hpp"

namespace comet::cuda {

/// Collective, on the current device, which `sharers` ranks have: the memory of the job of these
/// ranks' processes, started by the first world of theirs and kept until they end. Throws
/// Error(unsupported), on all ranks, if it cannot be had, or if a process is already in a job of
/// other ranks: NVSHMEM knows one set of processes; Error(capacity), on all, if a GPU is too full.
SymmetricHeap& join_nvshmem(const ProcessDeviceOptions& options, int sharers);

/// Collective: what memory each rank needs, and that all have it, see check_memory.
void check_memory_together(const ProcessDeviceOptions& options,
                           const std::function<DeviceMemory()>& own);

/// Runs `step`, which throws on some ranks, on all; then all throw the first rank's error.
void do_together(const ProcessDeviceOptions& options, const std::function<void()>& step);

}  // namespace comet::cuda
