// SPDX-License-Identifier: Apache-2.0
#include "cli/launcher.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/env.hpp"
#include "cli/blocked_signals.hpp"
#include "cli/exit_code.hpp"
#include "cli/output.hpp"

namespace comet::cli {
namespace {

using Clock = std::chrono::steady_clock;

// From a failure to SIGTERM, and from that to SIGKILL: longer than a rank takes that ends by a
// signal, see EndWatch.
constexpr std::chrono::milliseconds kGrace(700);

// The next of these signals, or 0 at `until`.
int await_signal(const sigset_t& signals, std::optional<Clock::time_point> until) {
  const auto left = until ? std::max(*until - Clock::now(), Clock::duration::zero())
                          : Clock::duration(std::chrono::hours(1));
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  const timespec limit{static_cast<time_t>(ns / 1'000'000'000), ns % 1'000'000'000};
  return std::max(::sigtimedwait(&signals, nullptr, &limit), 0);
}

class Launch {
 public:
  explicit Launch(int ranks) : arena_(ranks), pids_(static_cast<std::size_t>(ranks), 0) {}
  ~Launch() { signal_all(SIGKILL); }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  void start(const std::function<int(std::unique_ptr<LaunchedGroup>)>& body) {
    const std::chrono::milliseconds timeout = env().timeout;
    const pid_t parent = ::getpid();
    for (int rank = 0; rank < arena_.size(); ++rank) {
      const pid_t pid = ::fork();
      check(pid >= 0, ErrorCode::capacity, "[launch] rank {} of {} cannot be started: {}", rank,
            arena_.size(), std::strerror(errno));
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(kExitRankFailed);  // it ended before that
        signals_.release();
        std::exit(body(std::make_unique<LaunchedGroup>(arena_, rank, timeout)));
      }
      pids_[static_cast<std::size_t>(rank)] = pid;
      ++num_running_;
    }
  }

  // Until all have ended.
  void watch() {
    while (num_running_ > 0) {
      const int signal = await_signal(signals_.set(), next_step_);
      if (signal == SIGINT || signal == SIGTERM) {
        ended_by_ = signal;
        next_step_ = Clock::now();
      }
      reap();
      if (next_step_ && Clock::now() >= *next_step_) end_all();
    }
  }

  int finish() {
    if (ended_by_ != 0) {  // as whoever sent it expects
      signals_.release();
      ::raise(ended_by_);
    }
    tell();
    return code_;
  }

 private:
  // Why a rank has ended that could not say so itself, unless somebody has.
  void tell() const {
    if (why_.empty()) return;
    if (std::atomic_ref(arena_.words().told_errors).exchange(1) == 0) print_error(why_);
  }

  void signal_all(int signal) const {
    for (const pid_t pid : pids_) {
      if (pid > 0) ::kill(pid, signal);
    }
  }

  // Politely first.
  void end_all() {
    tell();  // before those who would only say that they were ended
    signal_all(is_ending_ ? SIGKILL : SIGTERM);
    is_ending_ = true;
    next_step_ = Clock::now() + kGrace;
  }

  void reap() {
    for (int rank = 0; rank < arena_.size(); ++rank) {
      pid_t& pid = pids_[static_cast<std::size_t>(rank)];
      int status = 0;
      if (pid == 0 || ::waitpid(pid, &status, WNOHANG) != pid) continue;
      if (status != 0) note_failure(rank, status);
      pid = 0;
      --num_running_;
    }
  }

  void note_failure(int rank, int status) {
    arena_.set_gone(rank);
    if (code_ != kExitOk) return;
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(kExitRankFailed);
    if (!next_step_) next_step_ = Clock::now() + kGrace;
    if (WIFEXITED(status)) return;
    why_ = fmt::format("[launch] rank {} is gone: its process {} was ended by SIG{}", rank,
                       pids_[static_cast<std::size_t>(rank)], ::sigabbrev_np(WTERMSIG(status)));
  }

  LaunchArena arena_;
  BlockedSignals signals_{SIGCHLD, SIGINT, SIGTERM};
  std::vector<pid_t> pids_;  // [rank], 0 once it has ended
  int num_running_ = 0;
  int code_ = kExitOk;  // of the first that failed
  std::string why_;     // it was ended by a signal, which itself says nothing
  int ended_by_ = 0;    // a signal to this process
  bool is_ending_ = false;
  std::optional<Clock::time_point> next_step_;  // when those that still run are ended
};

}  // namespace

int launch_ranks(int ranks, const LaunchSteps& steps) {
  ::signal(SIGCHLD,
           SIG_DFL);  // who starts this process may ignore it, and nobody could be waited for
  Launch launch(ranks);
  if (steps.before) steps.before();
  launch.start(steps.rank);
  launch.watch();
  if (steps.after) steps.after();
  return launch.finish();
}

}  // namespace comet::cli
