// SPDX-License-Identifier: Apache-2.0
#include "cli/json_lines.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "io/text_file.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;

// Writes `text` to a new file; returns an errno or 0.
int write_new_file(const std::string& name, const std::string& text) {
  const int file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return errno;
  int error = 0;
  for (std::size_t done = 0; done < text.size() && error == 0;) {
    const ssize_t written = ::write(file, text.data() + done, text.size() - done);
    if (written >= 0) {
      done += static_cast<std::size_t>(written);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && ::fsync(file) != 0) error = errno;
  if (::close(file) != 0 && error == 0) error = errno;
  return error;
}

}  // namespace

JsonLines::JsonLines(std::filesystem::path path) : path_(std::move(path)) {
  if (std::filesystem::exists(path_)) text_ = read_text_file(path_, kMostBytes);
  if (!text_.empty() && text_.back() != '\n') text_ += '\n';
  write();
}

void JsonLines::append(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) text_ += line + "\n";
  write();
}

void JsonLines::write() const {
  const std::string temporary = fmt::format("{}.{}.tmp", path_.string(), ::getpid());
  int error = write_new_file(temporary, text_);
  if (error == 0 && std::rename(temporary.c_str(), path_.c_str()) != 0) error = errno;
  if (error == 0) return;
  ::unlink(temporary.c_str());
  fail(ErrorCode::io, "[json] cannot write '{}': {}", path_.string(), std::strerror(error));
}

}  // namespace comet::cli
