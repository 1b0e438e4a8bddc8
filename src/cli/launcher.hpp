// SPDX-License-Identifier: Apache-2.0
// Starts ranks as forks of this process and sees to it that all end when one fails.
#pragma once

#include <functional>
#include <memory>

#include "comm/launch/launched_group.hpp"

namespace comet::cli {

/// Runs `body`, which returns an exit code, in `ranks` processes, before this one has started any
/// thread. Returns once all have ended: the exit code of the first that failed, else 0. When one
/// fails, the others have a moment to end by what their world tells them; those that have not are
/// ended. If no rank has said why, a sentence names it. SIGINT and SIGTERM end all ranks, then this
/// process. Ranks do not outlive this process, however it ends. Throws Error(capacity) if the
/// system has no more processes.
int launch_ranks(int ranks, const std::function<int(std::unique_ptr<LaunchedGroup>)>& body);

}  // namespace comet::cli
