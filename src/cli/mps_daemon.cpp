// SPDX-License-Identifier: Apache-2.0
#include "cli/mps_daemon.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.hpp"
#include "base/env.hpp"
#include "cli/mps_folders.hpp"

namespace comet::cli {
namespace {

// It answers after a tenth of a second, and quits as fast once it has no clients.
constexpr std::chrono::milliseconds kLeastStart(1'000);
constexpr std::chrono::milliseconds kMaxStart(10'000);
constexpr std::chrono::milliseconds kAskLimit(1'000);
constexpr std::chrono::milliseconds kEndLimit(1'000);

// The program first: without it there is no folder to remove.
MpsControl make_control() {
  std::filesystem::path program = MpsControl::find();
  check(!program.empty(), ErrorCode::unsupported,
        "[launch] several ranks on a GPU need NVIDIA's MPS, and nvidia-cuda-mps-control is not on "
        "PATH: it comes with the driver (Debian: nvidia-cuda-mps, Ubuntu: nvidia-compute-utils); "
        "or start one rank per GPU");
  return {std::move(program), make_mps_folder()};
}

void remove_folder(const std::filesystem::path& folder) {
  std::error_code ignored;  // the next launch tries again
  std::filesystem::remove_all(folder, ignored);
}

void end_abandoned(const std::filesystem::path& program) {
  for (const std::filesystem::path& folder : find_abandoned_mps_folders()) {
    if (const pid_t pid = find_mps_daemon(folder); pid != 0) {
      MpsControl(program, folder).ask("quit", kAskLimit);
      const auto deadline = std::chrono::steady_clock::now() + kEndLimit;
      while (find_mps_daemon(folder) == pid && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      // It leads its group, of which its servers are.
      if (find_mps_daemon(folder) == pid) ::kill(-pid, SIGKILL);
    }
    remove_folder(folder);
  }
}

}  // namespace

MpsDaemon::MpsDaemon(const std::string& gpus) : control_(make_control()) {
  try {
    end_abandoned(control_.program());
    start(gpus);
  } catch (...) {
    end();
    throw;
  }
  ::setenv(kMpsPipesVariable, control_.pipes().c_str(), 1);
}

MpsDaemon::~MpsDaemon() { end(); }

void MpsDaemon::start(const std::string& gpus) {
  pid_ = control_.start_daemon(gpus);
  const std::chrono::milliseconds limit = std::clamp(env().timeout, kLeastStart, kMaxStart);
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (find_mps_daemon(control_.folder()) != pid_ ||
         !control_.ask("get_server_list", kAskLimit)) {
    if (await_child(pid_, std::chrono::milliseconds(10))) {
      pid_ = 0;
      fail(ErrorCode::unsupported, "[launch] MPS did not start: {}", end_of_log());
    }
    check(std::chrono::steady_clock::now() < deadline, ErrorCode::unsupported,
          "[launch] MPS did not start within {} ms: {}", limit.count(), end_of_log());
  }
}

void MpsDaemon::end() noexcept {
  if (pid_ != 0) {
    if (!control_.ask("quit", kAskLimit) || !await_child(pid_, kEndLimit)) {
      ::kill(-pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  remove_folder(control_.folder());
}

std::string MpsDaemon::end_of_log() const {
  constexpr std::ptrdiff_t kMaxLength = 300;
  std::ifstream file(control_.log(), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) return "it has said nothing";
  return {text.end() - std::min(std::ssize(text), kMaxLength), text.end()};
}

}  // namespace comet::cli
