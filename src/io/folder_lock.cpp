// SPDX-License-Identifier: Apache-2.0
#include "io/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace comet {

// The folder and not the file, which is replaced while others wait for it.
FolderLock::FolderLock(const std::filesystem::path& file) {
  constexpr std::chrono::seconds kLongest(30);  // what holds it takes far less; it may be stopped
  constexpr std::chrono::milliseconds kPause(2);
  const std::filesystem::path folder = file.parent_path();
  descriptor_ = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) return;
  const auto deadline = std::chrono::steady_clock::now() + kLongest;
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const bool is_held = errno == EWOULDBLOCK || errno == EINTR;
    if (!is_held || std::chrono::steady_clock::now() > deadline) return;
    std::this_thread::sleep_for(kPause);
  }
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace comet
