// SPDX-License-Identifier: Apache-2.0
// Starts ranks as forks of this process and sees to it that all end when one fails.
#pragma once

#include <functional>
#include <memory>

#include "comm/launch/launched_group.hpp"

namespace comet::cli {

/// What a launch does.
struct LaunchSteps {
  /// In this process, before there are ranks and while signals wait. May be empty.
  std::function<void()> before;
  /// In the process of a rank; returns its exit code.
  std::function<int(std::unique_ptr<LaunchedGroup>)> rank;
  /// In this process, once all ranks have ended, before it ends by a signal too. May be empty.
  std::function<void()> after;
};

/// Runs a rank in each of `ranks` processes, before this one has started any thread. Returns once
/// all have ended: the exit code of the first that failed, else 0. When one fails, the others have
/// a moment to end by what their world tells them; those that have not are ended. If no rank has
/// said why, a sentence names it. SIGINT and SIGTERM end all ranks, then this process. Ranks do not
/// outlive this process, however it ends. Throws Error(capacity) if the system has no more
/// processes.
int launch_ranks(int ranks, const LaunchSteps& steps);

}  // namespace comet::cli
