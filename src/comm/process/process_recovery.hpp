// SPDX-License-Identifier: Apache-2.0
// ProcessRecovery: how the ranks of a failed world of processes meet without what failed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "comm/process/control_block.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// Rank 0 takes the others in once all are here. A rank that gives up may come again.
class ProcessRecovery {
 public:
  explicit ProcessRecovery(const ControlBlock& control) : control_(control) {}

  /// Waits until all ranks are here; rank 0 runs `reset` before any is let go. Returns the epoch
  /// from which all ranks count on, the latest that any has used. Throws Error(timeout) naming the
  /// missing ranks after the world's timeout.
  std::uint32_t meet(const WorldView& view, const std::function<void(std::uint32_t epoch)>& reset);

 private:
  enum State : std::uint32_t { away, here, taken };

  bool take_all() const noexcept;
  std::uint32_t latest_epoch() const noexcept;
  std::string missing_since(int rank, std::int64_t began_ns) const;

  const ControlBlock& control_;
};

}  // namespace comet
