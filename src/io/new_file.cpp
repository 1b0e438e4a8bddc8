// SPDX-License-Identifier: Apache-2.0
#include "io/new_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/check.hpp"

namespace comet {

NewFile::NewFile(const std::filesystem::path& path, std::string_view stage)
    : path_(path.string()), temporary_(fmt::format("{}.tmp.{}", path_, ::getpid())), stage_(stage) {
  std::error_code status_error;  // shows up below, when the file is created
  const std::filesystem::file_status status = std::filesystem::status(path, status_error);
  check(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), ErrorCode::io,
        "[{}] cannot write '{}': it is not a regular file", stage_, path_);
  ::unlink(temporary_.c_str());  // left by a crash of an earlier process with our id
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  require(descriptor_ >= 0, "create", temporary_);
}

NewFile::~NewFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!committed_) ::unlink(temporary_.c_str());
}

void NewFile::append(const void* data, std::size_t bytes) {
  // Linux writes at most 2 GiB at once; smaller pieces also keep page-cache bursts short.
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 28;
  const char* position = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, position, std::min(bytes, kMostAtOnce));
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, "write", temporary_);
    position += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void NewFile::commit() {
  require(::fsync(descriptor_) == 0, "write", temporary_);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  require(closed == 0, "close", temporary_);
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, "rename onto", path_);
  committed_ = true;
  sync_directory();
}

// The file is complete by now. A directory that cannot be synced only means that a crash of the
// machine may bring the old file back, so that is no error.
void NewFile::sync_directory() const noexcept {
  const std::string::size_type slash = path_.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

void NewFile::require(bool success, const char* action, const std::string& name) const {
  const int error = errno;
  check(success, ErrorCode::io, "[{}] cannot {} '{}': {}", stage_, action, name,
        std::strerror(error));
}

}  // namespace comet
