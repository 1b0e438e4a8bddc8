// SPDX-License-Identifier: Apache-2.0
// A warp that pushes partial sums and sums at home: it holds one piece of each kind and does
// whichever is ready, so none waits for another rank while it has work. Of both it pushes, since
// others wait for that, unless the link has not delivered what it pushed before.
#pragma once

#include "backend/cuda/kernels/overlap_home.cuh"
#include "backend/cuda/kernels/overlap_push.cuh"

namespace comet::cuda::overlap {

/// What a warp keeps in shared memory, to save registers. Lane 0 writes it.
struct CombinerState {
  PushState push;
  HomeState home;
  unsigned long long idle_since;
  bool has_told;
};

/// `STATE` finds the calling warp's own state.
template <typename T, CombinerState& (*STATE)()>
class Combiner {
 public:
  __device__ __forceinline__ Combiner(const OverlapParams& p, const SumBuffers& buffers)
      : p_(p), buffers_(buffers), pushes_(p), home_sums_(p) {
    if (lane_id() == 0) state().has_told = false;
  }

  /// Works until no push and no home sum is left to take. All lanes; false if the world has failed.
  __device__ __forceinline__ bool run() {
    while (!pushes_.is_over() || !home_sums_.is_over()) {
      bool has_worked = false;
      pushes_.send_due();
      const bool sums_first = pushes_.is_link_behind() && home_sums_.is_ready();
      if (!sums_first && pushes_.is_ready()) {
        pushes_.push(buffers_);
        has_worked = true;
      } else if (sums_first || home_sums_.is_ready()) {
        home_sums_.sum(buffers_);
        has_worked = true;
      }
      if (has_worked) {
        rest();
      } else if (!idle()) {
        return false;
      }
    }
    pushes_.send_all();
    return true;
  }

 private:
  __device__ __forceinline__ static CombinerState& state() { return STATE(); }
  __device__ __forceinline__ static PushState& push_state() { return STATE().push; }
  __device__ __forceinline__ static HomeState& home_state() { return STATE().home; }
  __device__ __forceinline__ std::uint32_t epoch() const { return p_.call.state->epoch; }

  // Waiting.

  __device__ __forceinline__ void rest() {
    nap_ = kFirstNap;
    looks_ = 0;
    if (lane_id() != 0 || !state().has_told) return;
    tell_progress(p_.call.world, epoch(), Stage::gemm_combine, -1);
    state().has_told = false;
  }

  // Naps ever longer, see wait_for_epoch; false if the world has failed or the time is over.
  __device__ __forceinline__ bool idle() {
    constexpr int kIdlesPerLook = 16;
    if (looks_++ == 0 && lane_id() == 0) state().idle_since = global_timer();
    __nanosleep(nap_);
    if (nap_ < kLongestNap) nap_ *= 2;
    if (looks_ % kIdlesPerLook != 0) return true;
    int goes_on = 1;
    if (lane_id() == 0) goes_on = look() ? 1 : 0;
    return __shfl_sync(kAllLanes, goes_on, 0) != 0;
  }

  // Lane 0.
  __device__ __forceinline__ bool look() {
    constexpr unsigned long long kWorthTelling = 1'000'000;  // ns
    const DeviceWorld& world = p_.call.world;
    const Outlook outlook = look_out(world);
    if (outlook.has_failed) return false;
    const unsigned long long waited = global_timer() - state().idle_since;
    const std::int32_t missing = home_sums_.is_over() ? -1 : home_sums_.missing();
    const bool is_peer = missing >= 0 && missing != world.rank;
    if (waited >= world.timeout_ns) {
      report_expiry(world,
                    {.stage = Stage::gemm_combine,
                     .epoch = epoch(),
                     .source = is_peer ? missing : world.rank,
                     .panel = is_peer ? home_sums_.panel() : pushes_.panel(),
                     .block = is_peer ? home_sums_.block() : 0},
                    epoch() - 1);
      return false;
    }
    if (outlook.is_reporter && waited > kWorthTelling && is_peer) {
      tell_progress(world, epoch(), Stage::gemm_combine, missing);
      state().has_told = true;
    }
    return true;
  }

  static constexpr unsigned kFirstNap = 64;  // ns
  static constexpr unsigned kLongestNap = 2048;

  const OverlapParams& p_;
  SumBuffers buffers_;
  Pushes<T, push_state> pushes_;
  HomeSums<T, home_state> home_sums_;

  unsigned nap_ = kFirstNap;
  int looks_ = 0;
};

}  // namespace comet::cuda::overlap
