// SPDX-License-Identifier: Apache-2.0
// Hosts: which ranks of a group can share memory.
#pragma once

#include <vector>

#include "comm/process/process_group.hpp"

namespace comet {

/// Ranks are of one host if they run under one kernel, see the same process numbers, and their
/// group gives them the same host name. Collective to make.
class Hosts {
 public:
  explicit Hosts(ProcessGroup& group);

  bool is_here(int rank) const noexcept { return is_here_[static_cast<std::size_t>(rank)]; }
  int num() const noexcept { return num_; }
  /// Lowest rank of this host.
  int first_here() const noexcept { return first_here_; }

 private:
  std::vector<bool> is_here_;  // [size]
  int num_ = 1;
  int first_here_ = 0;
};

}  // namespace comet
