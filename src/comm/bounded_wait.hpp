// SPDX-License-Identifier: Apache-2.0
// The one loop in which a thread that has nothing else to do waits for a condition.
#pragma once

#include <algorithm>
#include <chrono>

#include "comm/world_view.hpp"

namespace comet {

/// Returns true once `condition()` holds and false if it does not within the world's timeout.
/// Throws the world's failure if it fails meanwhile. Whoever makes the condition true must ring
/// this rank's doorbell after it. The condition does its own acquiring.
template <typename Condition>
bool wait_until(const WorldView& world, const Condition& condition) {
  // Failures ring too; the cap only bounds the harm of a reporter that died before it rang.
  constexpr std::chrono::milliseconds kLongestSleep(50);
  const auto deadline = std::chrono::steady_clock::now() + world.timeout;
  for (;;) {
    const std::uint32_t rung = world.doorbell().value();
    if (condition()) return true;
    if (world.failures->failed()) world.failures->rethrow(world.rank);
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    world.doorbell().sleep(rung, std::min(deadline, now + kLongestSleep));
  }
}

}  // namespace comet
