// SPDX-License-Identifier: Apache-2.0
// RemoteControl: the words of a ControlBlock across hosts. What a rank writes to its own words is
// told to the ranks of other hosts, whose mirrors change.
#pragma once

#include <cstdint>
#include <string>

#include "comet/error.hpp"
#include "comm/net/network.hpp"
#include "comm/process/control_block.hpp"
#include "comm/world_view.hpp"

namespace comet {

class FailureWatch;

/// tell_* are for any thread and say what the own Member's words are now.
class RemoteControl final : public NetworkEvents {
 public:
  /// All outlive it.
  RemoteControl(const ControlBlock& control, const WorldView& view, Network& network)
      : control_(control), view_(view), network_(network) {}

  /// Whom to tell of failures. Before the network is started.
  void set_watch(FailureWatch& watch) noexcept { watch_ = &watch; }

  void tell_meeting(std::uint64_t meeting, const SharedPost& post);
  void tell_came();
  void tell_gave_up();
  void tell_decision();
  void tell_failure(std::uint32_t generation, int rank, ErrorCode code,
                    const std::string& sentence);

  void on_message(int rank, const Message& message, const std::byte* bytes) override;
  void on_signal() override { view_.doorbell().ring(); }
  void on_gone(int rank, const std::string& how) override;
  void on_tick() override;

 private:
  void take_meeting(Member& member, const Message& message, const std::byte* bytes) const;
  void take_failure(const Message& message, const std::byte* bytes) const;

  const ControlBlock& control_;
  const WorldView& view_;
  Network& network_;
  FailureWatch* watch_ = nullptr;
  std::uint64_t told_progress_ = 0;
};

}  // namespace comet
