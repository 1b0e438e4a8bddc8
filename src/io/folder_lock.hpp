// SPDX-License-Identifier: Apache-2.0
// FolderLock: one process at a time changes files of a folder.
#pragma once

#include <filesystem>

namespace comet {

/// While one lives, others of the same folder wait, in this process and all others of the machine.
/// It ends with its process, however that ends, and leaves no file behind. Where the system has no
/// such lock (some network file systems), or another process keeps it for more than half a minute,
/// there is none: work goes on without.
class FolderLock {
 public:
  /// Of the folder that `file` lies in, which need not exist.
  explicit FolderLock(const std::filesystem::path& file);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace comet
