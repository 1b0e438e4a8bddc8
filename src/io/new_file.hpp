// SPDX-License-Identifier: Apache-2.0
// NewFile: a file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace comet {

/// Written as "<path>.tmp.<pid>"; commit() syncs it and renames it to `path`. Without a commit it
/// vanishes and `path` is as before. A file that is replaced leaves its permissions and, where the
/// system allows that, its owner. Where `path` is a symbolic link, all this holds of the file that
/// it leads to, and the link stays.
class NewFile {
 public:
  /// `stage` begins the sentences of errors. Throws Error(io), here and below, if the system
  /// refuses, or if `path` is there and no regular file: a device must not be replaced, nor a file
  /// through a descriptor, as /dev/stdout would be.
  NewFile(const std::filesystem::path& path, std::string_view stage);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void append(const void* data, std::size_t bytes);
  void append(std::string_view text) { append(text.data(), text.size()); }
  /// Once, at the end.
  void commit();

 private:
  void create();
  void sync_directory() const noexcept;
  void require(bool success, const char* action) const;

  std::string path_, temporary_, stage_;
  int descriptor_ = -1;
  bool committed_ = false;
};

}  // namespace comet
