// SPDX-License-Identifier: Apache-2.0
// Ctrl-C that lets the work in hand be finished; a second one ends the command at once.
#pragma once

namespace comet::cli {

/// While one lives, the first SIGINT says `promise` on standard error and is remembered, and the
/// next has the system's effect. At most one at a time.
class Interrupt {
 public:
  /// `promise` is one line with its line break, and must outlive this.
  explicit Interrupt(const char* promise);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool is_requested() const noexcept;
};

}  // namespace comet::cli
