// SPDX-License-Identifier: Apache-2.0
#include "cli/output.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#include "base/check.hpp"

namespace comet::cli {
namespace {

bool is_muted = false;

[[noreturn]] void fail_to_write(int error) {
  fail(ErrorCode::io, "[output] cannot write to standard output: {}", std::strerror(error));
}

}  // namespace

void reserve_standard_streams() noexcept {
  int descriptor = -1;
  do {
    descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  } while (descriptor >= 0 && descriptor <= STDERR_FILENO);
  if (descriptor > STDERR_FILENO) ::close(descriptor);
}

void mute_output() noexcept { is_muted = true; }

bool is_output_muted() noexcept { return is_muted; }

void print(std::string_view text) {
  if (is_muted) return;
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_to_write(errno);
}

void finish_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) fail_to_write(errno);
}

void print_error(std::string_view sentence) noexcept {
  while (!sentence.empty() && sentence.back() == '\n') sentence.remove_suffix(1);
  try {
    std::string line("comet: ");
    for (const char c : sentence) line += c == '\n' || c == '\r' ? ' ' : c;
    line += '\n';
    // In one write, so that what other processes write to the same place does not come between.
    std::fwrite(line.data(), 1, line.size(), stderr);
  } catch (const std::bad_alloc&) {
    std::fputs("comet: out of memory\n", stderr);
  }
}

}  // namespace comet::cli
