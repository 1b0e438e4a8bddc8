// SPDX-License-Identifier: Apache-2.0
// Calls on GPUs as a benchmark makes them: begun by all ranks together, and replayed from a graph.
// For cuda only; on cpu a call is made by calling it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "comet/world.hpp"

namespace comet {

/// The GPU of a rank, or its part of one.
struct RankDeviceInfo {
  int device = -1;  ///< CUDA's number; -1 on cpu.
  std::string name;
  int multiprocessors = 0;    ///< Of the rank.
  std::int64_t l2_bytes = 0;  ///< Of the GPU.
};
/// All but `device` empty on cpu.
RankDeviceInfo describe_device(World& world);

/// Queues what holds a rank's stream until all ranks have queued it. Collective.
void queue_start_line(World& world);

/// A start line and what a call queues on the rank's stream, captured once. Made and destroyed
/// while no kernel of the world runs, since CUDA may wait for all of them.
class CapturedCall {
 public:
  CapturedCall(World& world, const std::function<void()>& queue_call);
  ~CapturedCall();
  CapturedCall(CapturedCall&&) noexcept;
  CapturedCall& operator=(CapturedCall&&) noexcept;

  /// Queues it and waits for nothing; MoeLayer::check() waits. Collective.
  void launch();

 private:
  std::unique_ptr<class DeviceGraph> graph_;
};

}  // namespace comet
