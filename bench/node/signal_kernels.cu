// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/device/memory_order.cuh"
#include "backend/cuda/host/preload.hpp"
#include "signal_kernels.hpp"

namespace comet::node {
namespace {

// Acquires what released `value`. False once the global timer has passed `deadline`, which is
// looked at rarely: it must not be part of the latency.
__device__ __forceinline__ bool wait_for_word(const std::uint32_t* word, std::uint32_t value,
                                              unsigned long long deadline) {
  constexpr std::uint32_t kPollsPerLook = 1024;
  std::uint32_t polls = 0;
  while (!cuda::is_epoch_reached(cuda::load_acquire_system(word), value)) {
    if (++polls % kPollsPerLook == 0 && cuda::global_timer() > deadline) return false;
  }
  return true;
}

__global__ void ping_pong_kernel(const __grid_constant__ PingPong p) {
  const int role = p.first_role + static_cast<int>(blockIdx.x);
  std::uint32_t* const peer_word = p.words[1 - role];
  PingPongResult& result = *p.results[role];
  const unsigned long long deadline = cuda::global_timer() + kWaitLimitNs;
  unsigned long long begin = 0;
#pragma unroll 1
  for (std::uint32_t trip = 1; trip <= kWarmupTrips + kTimedTrips; ++trip) {
    if (trip == kWarmupTrips + 1) begin = cuda::global_timer();
    if (role == 0) cuda::store_release_system(peer_word, p.base + trip);
    if (!wait_for_word(p.words[role], p.base + trip, deadline)) {
      result = {0, trip};
      return;
    }
    if (role == 1) cuda::store_release_system(peer_word, p.base + trip);
  }
  result = {cuda::global_timer() - begin, 0};
}

__global__ void gate_kernel(const std::uint32_t* gate, std::uint32_t value) {
  const unsigned long long deadline = cuda::global_timer() + kWaitLimitNs;
  while (!cuda::is_epoch_reached(cuda::load_acquire_system(gate), value) &&
         cuda::global_timer() < deadline) {
  }
}

}  // namespace

void launch_ping_pong(const PingPong& params, int num_roles, cudaStream_t stream) {
  ping_pong_kernel<<<num_roles, 1, 0, stream>>>(params);
  cuda::check_cuda(cudaGetLastError(), "launching a ping-pong");
}

void launch_gate(const std::uint32_t* gate, std::uint32_t value, cudaStream_t stream) {
  gate_kernel<<<1, 1, 0, stream>>>(gate, value);
  cuda::check_cuda(cudaGetLastError(), "launching a gate");
}

void preload_signal_kernels() {
  cuda::preload(ping_pong_kernel);
  cuda::preload(gate_kernel);
}

}  // namespace comet::node
