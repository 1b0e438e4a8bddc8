// SPDX-License-Identifier: Apache-2.0
// Kernels that wait: for the host, so that all GPUs begin at once, and for each other's signals.
// Each wait ends after kWaitLimitNs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace comet::node {

constexpr unsigned long long kWaitLimitNs = 1'000'000'000;

constexpr std::uint32_t kWarmupTrips = 100;
constexpr std::uint32_t kTimedTrips = 1000;

struct PingPongResult {
  unsigned long long ns;  ///< All timed round trips.
  std::uint32_t expired;  ///< 0, or the trip whose signal did not come; ns is then 0.
};

/// Role 0 sends first, role 1 answers.
struct PingPong {
  std::uint32_t* words[2];     ///< What each role waits on, in its own GPU's memory.
  PingPongResult* results[2];  ///< Likewise.
  std::uint32_t base;          ///< Both words hold it; they end at base + all trips.
  int first_role;              ///< Of the launch's first block.
};

/// A block for each of `num_roles` roles from first_role on.
void launch_ping_pong(const PingPong& params, int num_roles, cudaStream_t stream);

/// Holds up the stream until `*gate`, in pinned host memory, is `value` or later. If that takes
/// longer than the limit, the stream goes on: its GPU then begins before the others.
void launch_gate(const std::uint32_t* gate, std::uint32_t value, cudaStream_t stream);

/// Loads both on the current device. Before any launch on it.
void preload_signal_kernels();

}  // namespace comet::node
