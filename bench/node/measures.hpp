// SPDX-License-Identifier: Apache-2.0
// Link rates and signal latency, medians of kRuns runs; and how far the GPUs' timers are apart.
#pragma once

#include <cstdint>
#include <vector>

#include "gpus.hpp"

namespace comet::node {

constexpr int kRuns = 5;

enum class Direction { pull, push };

/// GPU i pulls from, or pushes to, its right neighbour i + 1; the last one's is GPU 0.
struct LinkPoint {
  Direction direction = Direction::pull;
  bool ring = true;  ///< All GPUs at once; otherwise GPU 0 alone.
  int blocks = 1;
  int warps = 1;  ///< Of a block, at most kMostWarps.
};

struct LinkRate {
  double gbs;         ///< Of each GPU that works, in 1e9 bytes a second, by the slowest one's time.
  double gbs_spread;  ///< Largest - smallest of the runs.
  std::int64_t bytes;  ///< Of each GPU that works, in a run.
};

/// Throws Error(mismatch) if what arrived is not what was sent.
LinkRate measure_link(Gpus& gpus, const LinkPoint& point);

struct SignalLatency {
  double ns;  ///< Half a round trip.
  double spread_ns;
};

/// Between GPU 0 and GPU 1, or two multiprocessors of the only GPU. Throws Error(timeout) if a
/// signal does not come.
SignalLatency measure_signal(const Gpus& gpus);

/// Of each GPU, see find_timer_origin: differences tell how far their timers are apart.
std::vector<std::int64_t> find_timer_origins(const Gpus& gpus);

}  // namespace comet::node
