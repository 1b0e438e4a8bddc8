// SPDX-License-Identifier: Apache-2.0
#include "cli/mps_folders.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

#include "base/check.hpp"
#include "base/process_stat.hpp"
#include "cli/mps_control.hpp"

namespace comet::cli {
namespace {

constexpr std::string_view kPrefix = "comet-mps-";
// Of a socket's path Linux takes 108 bytes, and MPS adds "/pipe/control_privileged".
constexpr std::size_t kMaxFolderLength = 80;

std::filesystem::path temporary_folder() {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  check(!error, ErrorCode::io, "[launch] no folder for temporary files: {}: see TMPDIR",
        error.message());
  return folder;
}

// Empty if there is no such file, or its process ends while it is read.
std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();  // an iterator would throw
  return text.str();
}

// When a process was started, in the kernel's ticks, so that a number that another process has got
// since is no mistake; empty if there is none.
std::string start_of(std::string_view pid) {
  constexpr int kStart = 22;
  return process_stat(pid, kStart);
}

// The namespace in which process numbers hold.
std::string number_space() {
  std::array<char, 64> text{};
  const ssize_t length = ::readlink("/proc/self/ns/pid", text.data(), text.size());
  std::string digits;
  for (ssize_t i = 0; i < length; ++i) {
    const char c = text[static_cast<std::size_t>(i)];
    if (c >= '0' && c <= '9') digits += c;
  }
  return digits;
}

std::string name_of_process(std::string_view pid) {
  return fmt::format("{}{}-{}-{}", kPrefix, number_space(), pid, start_of(pid));
}

bool is_abandoned(const std::filesystem::path& folder) {
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
      status.st_uid != ::geteuid()) {
    return false;
  }
  const std::string name = folder.filename().string();
  const std::string own = fmt::format("{}{}-", kPrefix, number_space());
  if (!name.starts_with(own)) return false;
  const std::string pid = name.substr(own.size(), name.find('-', own.size()) - own.size());
  return name != name_of_process(pid);
}

}  // namespace

std::filesystem::path make_mps_folder() {
  const std::filesystem::path folder =
      temporary_folder() / name_of_process(std::to_string(::getpid()));
  check(folder.native().size() <= kMaxFolderLength, ErrorCode::invalid_argument,
        "[launch] {}: too long a path for the sockets of MPS, at most {} bytes: set TMPDIR to a "
        "shorter one",
        folder.string(), kMaxFolderLength);
  check(::mkdir(folder.c_str(), 0700) == 0 && ::mkdir((folder / "pipe").c_str(), 0700) == 0,
        ErrorCode::io, "[launch] cannot make {}: {}", folder.string(), std::strerror(errno));
  return folder;
}

std::vector<std::filesystem::path> find_abandoned_mps_folders() {
  std::vector<std::filesystem::path> folders;
  std::error_code error;  // of a folder that cannot be read: then there is nothing to find
  const std::filesystem::directory_iterator entries(temporary_folder(), error);
  for (const auto& entry : entries) {
    if (is_abandoned(entry.path())) folders.push_back(entry.path());
  }
  return folders;
}

// A number alone could be another process's by now; the environment tells.
pid_t find_mps_daemon(const std::filesystem::path& folder) {
  const std::string pipes = (folder / "pipe").string();
  const std::string text = read_text(pipes + "/nvidia-cuda-mps-control.pid");
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  if (pid <= 1) return 0;
  const std::string variable = std::string(kMpsPipesVariable) + "=" + pipes;
  std::istringstream variables(read_text("/proc/" + std::to_string(pid) + "/environ"));
  for (std::string line; std::getline(variables, line, '\0');) {
    if (line == variable) return pid;
  }
  return 0;
}

}  // namespace comet::cli
