// SPDX-License-Identifier: Apache-2.0
// SharedMemory: pages without a name that several processes of a host have, and that go with the
// last of them, however it ends.
#pragma once

#include <cstddef>
#include <cstdint>

namespace comet {

/// One mapping; movable. Zero-filled, aligned to 4096 bytes; pages that are never touched cost
/// nothing.
class SharedMemory {
 public:
  SharedMemory() = default;
  /// New pages for `bytes` bytes (one page for 0). Without data() if the system has no more.
  explicit SharedMemory(std::size_t bytes);
  /// The pages that process `pid` made and still holds under `fd`. Needs the right to look into
  /// that process, as processes of one user have. Without data() if they cannot be had; errno says
  /// why.
  SharedMemory(std::int32_t pid, int fd, std::size_t bytes);
  ~SharedMemory();
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::byte* data() const noexcept { return data_; }
  /// For other processes to find it by, until close_fd(); -1 of pages that another process made.
  int fd() const noexcept { return fd_; }
  /// Once all others have mapped it.
  void close_fd() noexcept;

 private:
  void map(int fd) noexcept;

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  int fd_ = -1;
};

}  // namespace comet
