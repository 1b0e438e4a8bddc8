// SPDX-License-Identifier: Apache-2.0
#include "cli/mps_control.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>
#include <utility>

#include "base/check.hpp"

namespace comet::cli {
namespace {

constexpr const char* kProgram = "nvidia-cuda-mps-control";

struct Standard {
  int in = -1;
  int out = -1;
};

// In the child: nothing but what must be between fork and exec.
[[noreturn]] void become(const std::filesystem::path& program, const char* argument,
                         Standard standard) {
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::dup2(standard.in, STDIN_FILENO);
  ::dup2(standard.out, STDOUT_FILENO);
  ::dup2(standard.out, STDERR_FILENO);
  ::execl(program.c_str(), kProgram, argument, nullptr);
  ::_exit(127);
}

int open_file(const std::filesystem::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  check(descriptor >= 0, ErrorCode::io, "[launch] cannot open {}: {}", path.string(),
        std::strerror(errno));
  return descriptor;
}

}  // namespace

std::optional<int> await_child(pid_t child, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return status;
}

MpsControl::MpsControl(std::filesystem::path program, std::filesystem::path folder)
    : program_(std::move(program)), folder_(std::move(folder)) {}

std::filesystem::path MpsControl::find() {
  const char* const path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::filesystem::path program = std::filesystem::path(folder) / kProgram;
    if (::access(program.c_str(), X_OK) == 0) return program;
  }
  return {};
}

pid_t MpsControl::start_daemon(const std::string& gpus) const {
  const Standard standard{.in = open_file("/dev/null", O_RDONLY),
                          .out = open_file(log(), O_WRONLY | O_CREAT | O_APPEND)};
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);       // it then ends its servers, too
    if (::getppid() != parent) ::_exit(127);  // it ended before that
    ::setenv(kMpsPipesVariable, pipes().c_str(), 1);
    ::setenv(kMpsLogVariable, folder_.c_str(), 1);
    ::setenv("CUDA_VISIBLE_DEVICES", gpus.c_str(), 1);
    become(program_, "-f", standard);
  }
  const int error = errno;
  ::close(standard.in);
  ::close(standard.out);
  check(pid > 0, ErrorCode::capacity, "[launch] {} cannot be started: {}", kProgram,
        std::strerror(error));
  ::setpgid(pid, pid);  // whichever of the two comes first
  return pid;
}

bool MpsControl::ask(const char* command, std::chrono::milliseconds limit) const noexcept {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  const Standard standard{.in = ends[0], .out = ::open("/dev/null", O_WRONLY | O_CLOEXEC)};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::setenv(kMpsPipesVariable, pipes().c_str(), 1);
    become(program_, nullptr, standard);
  }
  // The reading end is ours too, so a program that is gone already does no harm.
  const bool is_written = ::dprintf(ends[1], "%s\n", command) > 0;
  for (const int descriptor : {ends[0], ends[1], standard.out}) ::close(descriptor);
  if (pid < 0) return false;
  const std::optional<int> status = await_child(pid, limit);
  if (!status) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  return is_written && status == 0;
}

}  // namespace comet::cli
