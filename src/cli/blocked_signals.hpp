// SPDX-License-Identifier: Apache-2.0
// BlockedSignals: signals that are taken one by one in place of ending the process.
#pragma once

#include <csignal>
#include <initializer_list>

namespace comet::cli {

/// Blocks signals in the thread that makes it and in those that it starts later, until release().
/// Those that the process ignores, as shells make their background jobs ignore SIGINT, stay
/// ignored.
class BlockedSignals {
 public:
  explicit BlockedSignals(std::initializer_list<int> signals) noexcept;

  /// Lets them through again, in this thread.
  void release() const noexcept;
  const sigset_t& set() const noexcept { return set_; }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

}  // namespace comet::cli
