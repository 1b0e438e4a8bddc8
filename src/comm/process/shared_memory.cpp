// SPDX-License-Identifier: Apache-2.0
#include "comm/process/shared_memory.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace comet {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t whole_pages(std::size_t bytes) {
  return (std::max<std::size_t>(bytes, 1) + kPage - 1) / kPage * kPage;
}

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes) : bytes_(whole_pages(bytes)) {
  fd_ = ::memfd_create("comet", MFD_CLOEXEC);
  if (fd_ >= 0 && ::ftruncate(fd_, static_cast<off_t>(bytes_)) == 0) map(fd_);
  if (data_ == nullptr) close_fd();
}

SharedMemory::SharedMemory(std::int32_t pid, int fd, std::size_t bytes)
    : bytes_(whole_pages(bytes)) {
  const int opened = ::open(fmt::format("/proc/{}/fd/{}", pid, fd).c_str(), O_RDWR | O_CLOEXEC);
  if (opened < 0) return;
  map(opened);
  ::close(opened);
}

SharedMemory::~SharedMemory() {
  close_fd();
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      fd_(std::exchange(other.fd_, -1)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(fd_, other.fd_);
  return *this;
}

void SharedMemory::close_fd() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void SharedMemory::map(int fd) noexcept {
  void* const memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory != MAP_FAILED) data_ = static_cast<std::byte*>(memory);
}

}  // namespace comet
