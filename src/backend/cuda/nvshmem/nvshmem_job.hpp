// SPDX-License-Identifier: Apache-2.0
// What the plugin libcomet_nvshmem.so gives: the one piece that is linked with NVSHMEM. No
// exception passes between the two.
#pragma once

#include <cstddef>

#include "backend/cuda/kernels/device_puts.hpp"

namespace comet::cuda {

/// NVSHMEM as one process sees it. It is started once a process and ends with it.
class NvshmemJob : public DevicePuts {
 public:
  /// Collective: symmetric device memory with any content, until the process ends; null on all
  /// ranks if the heap may not grow so far. Where one rank's GPU is full it may never return.
  virtual void* allocate(std::size_t bytes) = 0;
  /// The same place in `rank`'s memory, or null if this process cannot reach it.
  virtual void* pointer(void* memory, int rank) = 0;
};

/// What a process of NVSHMEM starts with.
struct NvshmemStart {
  int rank = 0;
  int size = 1;
  const void* id = nullptr;   ///< Made by one process of them.
  NvshmemJob* job = nullptr;  ///< Result: the plugin's, valid until the process ends; or null.
  char error[256] = {};       ///< Why there is none, a part of a sentence.
};

/// The plugin's functions.
struct NvshmemFunctions {
  std::size_t call_bytes;  ///< sizeof(CallParams) where the plugin was built.
  std::size_t id_bytes;
  /// Writes a new id to `id`; false if it cannot.
  bool (*make_id)(void* id);
  /// Collective over all `size` processes, on the current device.
  void (*start)(NvshmemStart* start);
};

/// The plugin's only symbol, "comet_nvshmem_functions", has this type.
using NvshmemFunctionsFunction = const NvshmemFunctions*();

inline constexpr const char* kNvshmemPlugin = "libcomet_nvshmem.so";
inline constexpr const char* kNvshmemSymbol = "comet_nvshmem_functions";

}  // namespace comet::cuda
