// SPDX-License-Identifier: Apache-2.0
// Sums at the home rank of all ranks' partial sums, by single warps. Of a world of one rank, whose
// pushes write y, only zeros for tokens without rows.
#pragma once

#include "backend/cuda/kernels/combine_parts.cuh"
#include "backend/cuda/kernels/overlap_copies.cuh"

namespace comet::cuda::overlap {

/// What a warp keeps of its home sums in shared memory, to save registers. Lane 0 writes it.
struct HomeState {
  std::int32_t panel;  ///< Of the present sum.
  std::int32_t unit;   ///< Of own tokens.
  std::int32_t
      missing;  ///< Rank whose partials were not there when they were last looked for, or -1.
};

/// A warp's home sums. It holds at most one; tickets are by panel (where pushes write y, all in
/// one), block of own tokens, then units of the block. `STATE` finds the calling warp's HomeState.
template <typename T, HomeState& (*STATE)()>
class HomeSums {
 public:
  __device__ __forceinline__ explicit HomeSums(const OverlapParams& p) : p_(p) { take(); }

  /// Whether no sum is left to take.
  __device__ __forceinline__ bool is_over() const { return is_over_; }
  __device__ __forceinline__ std::int32_t panel() const { return state().panel; }
  __device__ __forceinline__ std::int32_t block() const { return state().unit / units_of_block(); }
  __device__ __forceinline__ std::int32_t missing() const { return state().missing; }

  /// Whether all sources' partials of the held sum are there, which are then acquired.
  __device__ __forceinline__ bool is_ready() const {
    if (is_over_) return false;
    if (pushes_write_y(p_.call)) return true;
    if (!p_.call.world.host_link) return look();
    // Signals lie behind PCIe, and when all warps read them all the time, nothing else gets
    // through. So they look in turn, and tell each other what they saw.
    constexpr unsigned long long kInterval = 2'000;  // ns, about a read's
    std::uint32_t* const seen = p_.order.seen + panel() * p_.order.home_blocks + block();
    if (__all_sync(kAllLanes, load_acquire_gpu(seen) != 0) != 0) return true;
    int may_look = 0;
    if (lane_id() == 0) may_look = take_turn(&p_.order.tickets->next_look, kInterval) ? 1 : 0;
    if (__shfl_sync(kAllLanes, may_look, 0) == 0 || !look()) return false;
    if (lane_id() == 0) add_release_gpu(seen, 1U);
    return true;
  }

  /// Makes the sum that is ready and takes the next.
  __device__ __forceinline__ void sum(const SumBuffers& buffers) {
    const unsigned long long begin = trace_begin(p_.call.trace);
    const std::int32_t traced_block = block();
    const std::int32_t traced_panel = panel();
    const std::int32_t first = state().unit * p_.choice.tokens_per_home;
    if (first < own_tokens()) sum_tokens(buffers, first);
    if (lane_id() == 0) {
      trace_end(p_.call.trace, begin, TraceKind::home_sum, copy_worker(), traced_block,
                traced_panel);
    }
    take();
  }

 private:
  static constexpr int kElementBytes = sizeof(T);

  __device__ __forceinline__ static HomeState& state() { return STATE(); }

  __device__ __forceinline__ std::int32_t own_tokens() const {
    return p_.call.tokens[p_.call.world.rank];
  }
  __device__ __forceinline__ std::int32_t units_of_block() const {
    return static_cast<std::int32_t>(kTokenBlock) / p_.choice.tokens_per_home;
  }

  // Reads the signals of the held sum.
  __device__ __forceinline__ bool look() const {
    const CallParams& p = p_.call;
    const std::uint32_t epoch = p.state->epoch;
    for (std::int32_t first = sources_begin_; first < sources_end_; first += kLanes) {
      const bool has_source = first + lane_id() < sources_end_;
      const std::int32_t source = first == sources_begin_ ? source_
                                  : has_source            ? p.plan.block_sources[first + lane_id()]
                                                          : 0;
      const std::uint32_t* slot = combine_slot_at(p, p.world.rank, source, panel(), block());
      const bool is_there = !has_source || is_epoch_reached(load_relaxed_system(slot), epoch);
      const unsigned late = __ballot_sync(kAllLanes, !is_there);
      if (late != 0) {
        if (lane_id() == __ffs(static_cast<int>(late)) - 1) state().missing = source;
        __syncwarp();
        return false;
      }
      if (has_source) load_acquire_system(slot);
    }
    __syncwarp();
    return true;
  }

  __device__ __forceinline__ void take() {
    const auto blocks = static_cast<std::int32_t>(num_token_blocks(own_tokens()));
    const std::int32_t count = blocks * units_of_block();
    const auto ticket = static_cast<std::int32_t>(take_ticket(&p_.order.tickets->home));
    is_over_ = ticket >= count * (pushes_write_y(p_.call) ? 1 : p_.num_panels);
    if (is_over_) return;
    __syncwarp();
    if (lane_id() == 0) state() = {ticket / count, ticket % count, -1};
    __syncwarp();
    const DevicePlanView& plan = p_.call.plan;
    sources_begin_ = plan.block_sources_begin[block()];
    sources_end_ = plan.block_sources_begin[block() + 1];
    const std::int32_t at = sources_begin_ + lane_id();
    source_ = at < sources_end_ ? plan.block_sources[at] : 0;
  }

  __device__ __forceinline__ void sum_tokens(const SumBuffers& buffers, std::int32_t first_token) const {
    const CallParams& p = p_.call;
    const std::int32_t left = own_tokens() - first_token;
    const int num_tokens = left < p_.choice.tokens_per_home ? left : p_.choice.tokens_per_home;
    const bool has_token = lane_id() < num_tokens;
    const std::int32_t begin = p.plan.token_sources_begin[first_token];
    int start = 0;
    int end = 0;
    if (has_token) {
      start = p.plan.token_sources_begin[first_token + lane_id()] - begin;
      end = p.plan.token_sources_begin[first_token + lane_id() + 1] - begin;
    }
    const bool is_done = pushes_write_y(p);
    const int total = is_done ? 0 : __shfl_sync(kAllLanes, end, num_tokens - 1);
    const ColumnRange columns = is_done ? ColumnRange{0, p.dims.hidden} : columns_of(p, panel());
    const Strips strips = strips_of(columns, p.dims.hidden);
    std::byte* const partials = p.peers[p.world.rank] + p.layout.combine;
    add_entries<T>(buffers, strips, total, end - start, is_y_aligned(p), [&](int first) {
      const Places places = place_entries(first, num_tokens, start, end);
      const int run = __shfl_sync(kAllLanes, start, places.of);
      std::int64_t source = 0;
      if (places.has_entry()) source = p.plan.token_sources[begin + run + places.offset];
      const std::int32_t token = first_token + places.of;
      return Window{
          .from = partials,
          .from_row = 0,
          .from_cell = static_cast<std::int32_t>(source * p.dims.max_tokens + token),
          .from_cells = static_cast<std::int32_t>(p.dims.world * p.dims.max_tokens),
          .to = {p.y + token * p.y_stride_bytes, 0},
          .to_bytes_per_column = kElementBytes,
          .weight = 1.0F,
          .last = places.last,
          .count = places.end - first};
    });
    zero_tokens(first_token, __ballot_sync(kAllLanes, has_token && start == end), strips);
  }

  // Tokens that no rank has a partial of.
  __device__ __forceinline__ void zero_tokens(std::int32_t first_token, unsigned tokens,
                                              const Strips& strips) const {
    for (; tokens != 0; tokens &= tokens - 1) {
      const std::int32_t token = first_token + __ffs(static_cast<int>(tokens)) - 1;
      auto* const y = reinterpret_cast<T*>(p_.call.y + token * p_.call.y_stride_bytes);
      for (int strip = 0; strip < strips.count; ++strip) {
        const std::int64_t at = lane_id() * kRunOf16Bits;
        if (at < strips.width(strip)) store_run_unaligned(y + strips.column(strip) + at, uint4{});
      }
    }
  }

  const OverlapParams& p_;
  std::int32_t sources_begin_ = 0;  // of the held sum's block
  std::int32_t sources_end_ = 0;
  std::int32_t source_ = 0;  // the lane's of the first 32
  bool is_over_ = false;
};

}  // namespace comet::cuda::overlap
