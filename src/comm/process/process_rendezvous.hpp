// SPDX-License-Identifier: Apache-2.0
// ProcessRendezvous: how the ranks of a world of processes meet and show each other something. The
// protocol is that of Rendezvous, on words in shared memory.
#pragma once

#include <cstdint>
#include <string>

#include "comm/process/control_block.hpp"
#include "comm/process/remote_control.hpp"
#include "comm/world_view.hpp"

namespace comet {

class ProcessRendezvous {
 public:
  enum class Call : std::int32_t { barrier, allocate, all_gather, set_link };

  /// `remote` tells ranks of other hosts; null if there are none.
  ProcessRendezvous(const ControlBlock& control, RemoteControl* remote)
      : control_(control), remote_(remote) {}

  /// After a recovery: the next meeting is the one after `meeting`, on all ranks.
  void continue_from(std::uint64_t meeting) noexcept { last_ = meeting; }

  /// Shows `post`, whose `call` is set here, waits until all ranks have come to their same meeting,
  /// and returns its number: post(rank, number) are valid until this rank's next meeting. Makes
  /// visible all that any rank wrote before. Throws the recorded failure if the world fails
  /// meanwhile, Error(timeout) on expiry (which fails the world), Error(mismatch) if ranks are in
  /// different collectives.
  std::uint64_t meet(const WorldView& view, Call call, const SharedPost& post);

  const SharedPost& post(int rank, std::uint64_t meeting) const noexcept {
    return control_.member(rank).posts[meeting % 2];
  }

 private:
  bool has_met(std::uint64_t meeting) const noexcept;
  void wait(const WorldView& view, std::uint64_t meeting, Call call) const;
  std::string missing_ranks(const WorldView& view, std::uint64_t meeting) const;

  const ControlBlock& control_;
  RemoteControl* remote_;
  std::uint64_t last_ = 0;  // meeting
};

}  // namespace comet
