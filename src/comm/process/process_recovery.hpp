// SPDX-License-Identifier: Apache-2.0
// ProcessRecovery: how the ranks of a failed world of processes meet without what failed.
#pragma once

#include <cstdint>
#include <string>

#include "comm/process/control_block.hpp"
#include "comm/process/remote_control.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// Rank 0 decides once all ranks are here, and all others follow what it decided. A rank that gives
/// up may come again. If rank 0 decided in the same moment, the others go on without it, wait for
/// it in their next call, and it follows the decision when it comes again.
class ProcessRecovery {
 public:
  /// From where all ranks count on.
  struct Outcome {
    std::uint32_t number;   ///< Recoveries in all.
    std::uint32_t epoch;    ///< The latest that any rank has used.
    std::uint64_t meeting;  ///< The latest that any rank has entered.
  };

  /// `remote` as for ProcessRendezvous.
  ProcessRecovery(const ControlBlock& control, RemoteControl* remote)
      : control_(control), remote_(remote) {}

  /// Waits until all ranks are here. All that ranks of other hosts had sent before is then here
  /// too. Throws Error(timeout) naming the missing ranks after the world's timeout.
  Outcome meet(const WorldView& view);

 private:
  bool is_waiting(int rank, std::uint32_t number) const noexcept;
  void decide(std::uint32_t number) const;
  bool may_leave(std::uint32_t number) const noexcept;
  std::string missing_since(int rank, std::uint32_t number, std::int64_t began_ns) const;

  const ControlBlock& control_;
  RemoteControl* remote_;
  std::uint32_t done_ = 0;  // recoveries that this rank has left
};

}  // namespace comet
