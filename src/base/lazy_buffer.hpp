// SPDX-License-Identifier: Apache-2.0
// LazyBuffer: large rank-local memory that costs nothing until it is touched.
#pragma once

#include <cstddef>
#include <cstdint>

namespace comet {

/// Zero-filled pages from the operating system, aligned to 4096 bytes.
class LazyBuffer {
 public:
  LazyBuffer() = default;
  ~LazyBuffer();
  LazyBuffer(const LazyBuffer&) = delete;
  LazyBuffer& operator=(const LazyBuffer&) = delete;

  /// Makes it at least `bytes` long. Growing loses the contents. Throws Error(capacity) if the
  /// system has no address space for it.
  void ensure(std::int64_t bytes);

  std::byte* data() const noexcept { return data_; }
  std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

}  // namespace comet
