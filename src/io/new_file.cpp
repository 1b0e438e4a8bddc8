// SPDX-License-Identifier: Apache-2.0
#include "io/new_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/check.hpp"
#include "io/follow_links.hpp"

namespace comet {
namespace {

// As links like /dev/stdout -> /proc/self/fd/1 do, which tell the name that an open file once had.
bool leads_through_proc(const std::filesystem::path& path) {
  for (const std::filesystem::path& name : link_chain(path)) {
    std::error_code error;  // a folder that is not there is not of /proc
    const std::filesystem::path folder = std::filesystem::absolute(name, error).parent_path();
    if (std::filesystem::canonical(folder, error).string().starts_with("/proc/")) return true;
  }
  return false;
}

}  // namespace

NewFile::NewFile(const std::filesystem::path& path, std::string_view stage)
    : path_(follow_links(path).string()),
      temporary_(fmt::format("{}.tmp.{}", path_, ::getpid())),
      stage_(stage) {
  std::error_code status_error;  // shows up below, when the file is created
  const std::filesystem::file_status status = std::filesystem::status(path, status_error);
  check(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), ErrorCode::io,
        "[{}] cannot write '{}': it is not a regular file", stage_, path.string());
  check(!leads_through_proc(path), ErrorCode::io,
        "[{}] cannot write '{}': it names what a process has open, not a file", stage_,
        path.string());
  check(!std::filesystem::is_symlink(std::filesystem::symlink_status(path_, status_error)),
        ErrorCode::io, "[{}] cannot write '{}': its links lead nowhere", stage_, path.string());
  create();
}

// With the permissions of the file that is replaced, from the start: what others may not read they
// must not read halfway.
void NewFile::create() {
  struct stat old = {};
  const bool is_there = ::stat(path_.c_str(), &old) == 0;
  constexpr mode_t kPermissions = S_IRWXU | S_IRWXG | S_IRWXO;
  ::unlink(temporary_.c_str());  // left by a crash of an earlier process with our id
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                       is_there ? old.st_mode & kPermissions : 0666);
  require(descriptor_ >= 0, "create");
  if (!is_there) return;
  // Refused to all but the superuser if the owner is another; the file is ours then.
  [[maybe_unused]] const int owned = ::fchown(descriptor_, old.st_uid, old.st_gid);
  // File systems without permissions may refuse that.
  [[maybe_unused]] const int permitted = ::fchmod(descriptor_, old.st_mode & kPermissions);
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
    require(written > 0, "write");
    position += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void NewFile::commit() {
  require(::fsync(descriptor_) == 0, "write");
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  require(closed == 0, "close");
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, "replace");
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

// The temporary file is no name that a caller knows.
void NewFile::require(bool success, const char* action) const {
  const int error = errno;
  check(success, ErrorCode::io, "[{}] cannot {} '{}': {}", stage_, action, path_,
        std::strerror(error));
}

}  // namespace comet
