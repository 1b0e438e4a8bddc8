// SPDX-License-Identifier: Apache-2.0
// SymmetricMemory: the pages behind a local world's symmetric allocations.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace comet {

/// Owns mappings of this process until it is destroyed. Thread-safe.
class SymmetricMemory {
 public:
  SymmetricMemory() = default;
  ~SymmetricMemory();
  SymmetricMemory(const SymmetricMemory&) = delete;
  SymmetricMemory& operator=(const SymmetricMemory&) = delete;

  /// Zero-filled pages for `bytes` bytes (one page for 0), or null if the system has no more.
  /// Pages that are never touched cost nothing.
  std::byte* map(std::size_t bytes);

  /// Gives back what map() returned, before the end of this object; null is allowed.
  void unmap(std::byte* memory);

 private:
  struct Mapping {
    std::byte* memory;
    std::size_t bytes;
  };

  std::mutex mutex_;
  std::vector<Mapping> mappings_;
};

}  // namespace comet
