// SPDX-License-Identifier: Apache-2.0
// EndWatch: what a rank that is a process says when whoever started it ends it.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "cli/blocked_signals.hpp"
#include "comet/world.hpp"

namespace comet::cli {

/// Turns SIGTERM and SIGINT into a failure of the world, which ends its waits. mpirun sends SIGTERM
/// when another process of the job has died, so it waits a moment for the world to say which. A
/// process that does not come to an end by itself then is ended, with the exit code of a failed
/// rank.
class EndWatch {
 public:
  /// Blocks the signals in this thread and in those that it starts from now on. `starter` says who
  /// ends processes and `rank` who this is, for the sentence; `tell` says a sentence, and is called
  /// by another thread.
  EndWatch(std::string starter, int rank, std::function<void(const std::string& sentence)> tell);
  /// Lets the signals through again, unless one has come.
  ~EndWatch();
  EndWatch(const EndWatch&) = delete;
  EndWatch& operator=(const EndWatch&) = delete;

  /// Once there is one; it outlives this.
  void set_world(World& world) noexcept { world_.store(&world); }

 private:
  void watch();
  bool is_stopped(int milliseconds) const;
  std::string await_cause(int signal);

  std::string starter_;
  int rank_;
  std::function<void(const std::string&)> tell_;
  std::atomic<World*> world_{nullptr};
  std::atomic<bool> has_come_{false};
  BlockedSignals blocked_{SIGTERM, SIGINT};
  int signals_ = -1;  // signalfd
  int stop_ = -1;     // eventfd
  std::thread thread_;
};

}  // namespace comet::cli
