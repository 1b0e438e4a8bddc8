// SPDX-License-Identifier: Apache-2.0
// AtomicArray: counters of one call, zeroed between calls without freeing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace comet {

class AtomicArray {
 public:
  /// `size` zeros; contents are lost. Not while workers run.
  void reset(std::int64_t size) {
    if (size > capacity_) {
      values_ = std::make_unique<std::atomic<std::int32_t>[]>(size);
      capacity_ = size;
    }
    for (std::int64_t i = 0; i < size; ++i) values_[i].store(0, std::memory_order_relaxed);
  }

  std::atomic<std::int32_t>& operator[](std::int64_t i) noexcept { return values_[i]; }
  const std::atomic<std::int32_t>& operator[](std::int64_t i) const noexcept { return values_[i]; }

 private:
  std::unique_ptr<std::atomic<std::int32_t>[]> values_;
  std::int64_t capacity_ = 0;
};

}  // namespace comet
