// SPDX-License-Identifier: Apache-2.0
// ProcessRendezvous: how the ranks of a world of processes meet and show each other something. The
// protocol is that of Rendezvous, on words in shared memory.
#pragma once

#include <cstdint>
#include <string>

#include "comm/process/control_block.hpp"
#include "comm/world_view.hpp"

namespace comet {

class ProcessRendezvous {
 public:
  enum class Call : std::int32_t { barrier, allocate, all_gather, set_link };

  explicit ProcessRendezvous(const ControlBlock& control) : control_(control) {}

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
};

}  // namespace comet
