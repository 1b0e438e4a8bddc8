// SPDX-License-Identifier: Apache-2.0
#include "base/lazy_buffer.hpp"

#include <sys/mman.h>

#include "base/check.hpp"
#include "base/int_math.hpp"

namespace comet {

LazyBuffer::~LazyBuffer() {
  if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes_));
}

void LazyBuffer::ensure(std::int64_t bytes) {
  if (bytes <= bytes_) return;
  // Half as much again, so that slowly growing calls do not remap each time.
  const std::int64_t size = round_up(max_of(bytes, bytes_ + bytes_ / 2), 4096);
  void* data = mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(data != MAP_FAILED, ErrorCode::capacity, "[memory] no room for a buffer of {} bytes", size);
  if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes_));
  data_ = static_cast<std::byte*>(data);
  bytes_ = size;
}

}  // namespace comet
