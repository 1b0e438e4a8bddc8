// SPDX-License-Identifier: Apache-2.0
// Partial sums to their home ranks and sums at home, by single warps. A warp holds at most one piece
// of each kind and does whichever is ready, so none waits for another rank while it has work.
#pragma once

#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/kernels/combine_parts.cuh"
#include "backend/cuda/kernels/overlap_copies.cuh"

namespace comet::cuda::overlap {

/// What a warp keeps in shared memory, to save registers. Lane 0 writes it.
struct CombinerState {
  PendingSignals<8> signals;

  // The present push, and where its ticket was found.
  std::int32_t push_phase;
  std::uint32_t push_base;  ///< First ticket of the phase.
  std::int32_t push_panel;
  std::int32_t num_pushed;  ///< Tokens of the unit.

  // The present home sum.
  std::int32_t home_range;
  std::uint32_t home_base;
  std::int32_t home_panel;
  std::int32_t home_unit;  ///< Of own tokens.

  unsigned long long idle_since;
  bool has_told;

  __device__ __forceinline__ void clear() {
    signals.clear();
    push_phase = home_range = 0;
    push_base = home_base = 0;
    has_told = false;
  }
};

/// `STATE` finds the calling warp's own state, cleared: a reference would cost registers.
template <typename T, CombinerState& (*STATE)()>
class Combiner {
 public:
  __device__ __forceinline__ Combiner(const OverlapParams& p, const SumBuffers& buffers)
      : p_(p), epoch_(p.call.state->epoch), buffers_(buffers) {}

  /// Works until no push and no home sum is left to take. All lanes; false if the world has failed.
  __device__ __forceinline__ bool run() {
    for (;;) {
      bool has_worked = false;
      if (lane_id() == 0) state().signals.send_due(epoch_);
      if (push_hold_ == Hold::none) take_push();
      if (push_hold_ == Hold::held && may_push() && is_push_ready()) {
        const unsigned long long begin = trace_begin(call().trace);
        push();
        if (lane_id() == 0) {
          trace_end(call().trace, begin, TraceKind::push, copy_worker(), mine_.last_tile,
                    state().push_panel);
        }
        push_hold_ = Hold::none;
        has_worked = true;
      }
      if (home_hold_ == Hold::none) take_home();
      std::int32_t missing = -1;
      if (home_hold_ == Hold::held && is_home_ready(missing)) {
        const unsigned long long begin = trace_begin(call().trace);
        sum_home();
        if (lane_id() == 0) {
          trace_end(call().trace, begin, TraceKind::home_sum, copy_worker(), home_block(),
                    state().home_panel);
        }
        home_hold_ = Hold::none;
        has_worked = true;
      }
      if (push_hold_ == Hold::over && home_hold_ == Hold::over) break;
      if (has_worked) {
        rest();
      } else if (!idle(missing)) {
        return false;
      }
    }
    if (lane_id() == 0) state().signals.send_all(epoch_);
    return true;
  }

 private:
  enum class Hold : std::uint8_t { none, held, over };

  __device__ __forceinline__ const CallParams& call() const { return p_.call; }
  __device__ __forceinline__ static CombinerState& state() { return STATE(); }

  // Pushes: by phase, panel, then units of tokens of other ranks and of own ones.

  __device__ __forceinline__ void take_push() {
    const std::int32_t tokens = p_.choice.tokens_per_push;
    const std::uint32_t ticket = take_ticket(&p_.order.tickets->push);
    std::uint32_t base = state().push_base;
    for (std::int32_t phase = state().push_phase; phase < p_.choice.phases; ++phase) {
      const std::int32_t num_sent = p_.order.num_sent[phase];
      const std::int32_t num_own = p_.order.num_own[phase];
      const std::int32_t sent_units = (num_sent + tokens - 1) / tokens;
      const std::int32_t units = sent_units + (num_own + tokens - 1) / tokens;
      const auto local = static_cast<std::int32_t>(ticket - base);
      if (local >= units * p_.num_panels) {
        base += static_cast<std::uint32_t>(units * p_.num_panels);
        continue;
      }
      const std::int32_t panel = local / units;
      const std::int32_t unit = local - panel * units;
      const bool is_own = unit >= sent_units;
      const std::int32_t first = (is_own ? unit - sent_units : unit) * tokens;
      const std::int32_t left = (is_own ? num_own : num_sent) - first;
      const std::int32_t count = left < tokens ? left : tokens;
      const TokenRows* list = is_own ? p_.order.own + phase * p_.order.own_stride
                                     : p_.order.sent + phase * p_.order.sent_stride;
      mine_ = TokenRows{0, -1, 0, 0, 0};
      if (lane_id() < count) mine_ = list[first + lane_id()];
      push_hold_ = Hold::held;
      __syncwarp();
      if (lane_id() == 0) {
        state().push_phase = phase;
        state().push_base = base;
        state().push_panel = panel;
        state().num_pushed = count;
      }
      __syncwarp();
      return;
    }
    push_hold_ = Hold::over;
  }

  // While products wait for rows, pulls have the link for themselves: only products make more to push.
  __device__ __forceinline__ bool may_push() const {
    int may = 1;
    if (lane_id() == 0 && mine_.source != call().world.rank) {
#ifdef PFIRST
      may = !has_pulls_left(p_) ? 1 : 0;
#else
      may = load_relaxed_gpu(&p_.order.tickets->starved) == 0 || !has_pulls_left(p_) ? 1 : 0;
#endif
    }
    return __shfl_sync(kAllLanes, may, 0) != 0;
  }

  __device__ __forceinline__ std::uint32_t columns_of_panel() const {
    const ColumnRange panel = columns_of(call(), state().push_panel);
    return static_cast<std::uint32_t>(ceil_div(panel.end - panel.begin, kGemmBlockN));
  }

  // Whether the panel is done in all tiles of the lanes' tokens, which is then acquired. The last of
  // them in the order is looked at first.
  __device__ __forceinline__ bool is_push_ready() const {
    const std::uint32_t wanted = columns_of_panel();
    const auto done_of = [&](std::int32_t tile) {
      return p_.order.second_done + tile * p_.num_panels + state().push_panel;
    };
    const bool has_token = mine_.source >= 0;
    const bool last_done = !has_token || load_relaxed_gpu(done_of(mine_.last_tile)) >= wanted;
    if (__all_sync(kAllLanes, last_done) == 0) return false;
    bool all_done = true;
    if (has_token) {
      for (std::int32_t r = 0; r < mine_.num_rows; ++r) {
        const std::int32_t row = call().plan.rows[mine_.row_begin + r].row;
        const auto tile = static_cast<std::int32_t>(row / call().dims.block_m);
        if (load_acquire_gpu(done_of(tile)) < wanted) all_done = false;
      }
    }
    return __all_sync(kAllLanes, all_done) != 0;
  }

  __device__ __forceinline__ void push() {
    const CallParams& p = call();
    book_push();
    const int count = mine_.source >= 0 ? mine_.num_rows : 0;
    int end = count;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const int before = __shfl_up_sync(kAllLanes, end, distance);
      if (lane_id() >= distance) end += before;
    }
    const int total = __shfl_sync(kAllLanes, end, kLanes - 1);
    const auto find = [&](Window& window, bool is_there, int offset) {
      const int begin = __shfl_sync(kAllLanes, mine_.row_begin, window.of);
      if (!is_there) return;
      window.entry = p.plan.rows[begin + offset].row;
      window.weight = p.weights_after_down ? p.row_weights[window.entry] : 1.0F;
    };
    const auto* out = reinterpret_cast<const T*>(p.out);
    add_strips(
        state().push_panel, total,
        [&](int base) {
          return make_window(base, total, state().num_pushed, end - count, end, find);
        },
        [&](std::int32_t row, std::int64_t column, std::int32_t /*width*/) {
          return out + row * p.dims.hidden + column;
        },
        [&](std::int32_t of, std::int64_t column, std::int32_t width, const uint4& sum) {
          const std::int32_t home = __shfl_sync(kAllLanes, mine_.source, of);
          const std::int32_t token = __shfl_sync(kAllLanes, mine_.token, of);
          if (lane_id() * kRunOf16Bits >= width) return;
          auto* to = reinterpret_cast<T*>(p.peers[home] + p.layout.combine) +
                     combine_index(p.dims, column, width, p.world.rank, token);
          store_run(to + lane_id() * kRunOf16Bits, sum);
        });
    __syncwarp();
    complete_blocks();
  }

  // Sums the `total` entries of the unit over a panel: `window_at(base)` makes a window,
  // `entry_at(entry, column, width)` is where an entry's strip begins, `store(token, column, width,
  // run)` takes the lane's run of a sum. Few entries are one window for all strips, which are then
  // loaded without a pause.
  template <typename WindowAt, typename EntryAt, typename Store>
  __device__ __forceinline__ void add_strips(std::int32_t panel, int total, WindowAt window_at,
                                             EntryAt entry_at, Store store) {
    const ColumnRange columns = columns_of(call(), panel);
    const auto all_strips = static_cast<int>(ceil_div(columns.end - columns.begin, kStrip));
    const int strips = total <= kLanes ? all_strips : 1;
    fence_proxy_async_global();  // entries were written by ordinary stores
#pragma unroll 1
    for (int first = 0; first < all_strips; first += strips) {
      const auto column_of = [&](int strip) { return columns.begin + (first + strip) * kStrip; };
      const auto width_at = [&](std::int64_t column) {
        return static_cast<std::int32_t>(min_of(kStrip, call().dims.hidden - column));
      };
      float sum[kRunOf16Bits] = {};
#pragma unroll 1
      for (int base = 0; base < total; base += kLanes) {
        const Window window = window_at(base);
        add_window<T>(
            buffers_, window, strips, sum,
            [&](std::int32_t entry, int strip) {
              const std::int64_t column = column_of(strip);
              const std::int32_t width = width_at(column);
              return EntryStrip<T>{entry_at(entry, column, width), width};
            },
            [&](std::int32_t of, int strip) {
              const std::int64_t column = column_of(strip);
              store(of, column, width_at(column), round_run<T>(sum));
            });
      }
    }
  }

  __device__ __forceinline__ std::int64_t cell_of_token() const {
    const std::int64_t cell =
        mine_.source * std::int64_t{p_.order.home_blocks} + mine_.token / kTokenBlock;
    return cell * p_.num_panels + state().push_panel;
  }

  // Books the lanes' partials on the paced link, by home rank. A block's signal waits for the latest
  // of its transfers.
  __device__ __forceinline__ void book_push() {
    const CallParams& p = call();
    if (*p.world.ns_per_byte <= 0) return;
    const ColumnRange panel = columns_of(p, state().push_panel);
    const unsigned same = __match_any_sync(kAllLanes, static_cast<int>(mine_.source));
    const int leader = __ffs(static_cast<int>(same)) - 1;
    unsigned long long delivered = 0;
    if (mine_.source >= 0 && lane_id() == leader) {
      const std::int64_t bytes =
          __popc(same) * (panel.end - panel.begin) * p.dims.element_bytes;
      delivered = book_transfer(p.world, p.world.rank, mine_.source, bytes);
      trace_transfer(p, TraceKind::link_push, delivered, bytes, mine_.source, state().push_panel);
    }
    delivered = __shfl_sync(kAllLanes, delivered, leader);
    if (delivered != 0) atomicMax(p_.order.delivered + cell_of_token(), delivered);
    __syncwarp();
  }

  // Counts the lanes' tokens of each block, and signals blocks whose last partials these were.
  __device__ __forceinline__ void complete_blocks() {
    const CallParams& p = call();
    const std::int64_t cell = cell_of_token();
    const unsigned same = __match_any_sync(kAllLanes, static_cast<int>(cell));
    unsigned long long delivered = 0;
    bool is_complete = false;
    if (mine_.source >= 0 && lane_id() == __ffs(static_cast<int>(same)) - 1) {
      const auto count = static_cast<std::uint32_t>(__popc(same));
      const auto needed =
          static_cast<std::uint32_t>(p_.order.block_needed[cell / p_.num_panels]);
      is_complete = fetch_add_acq_rel_gpu(p_.order.pushed + cell, count) + count == needed;
      if (is_complete) delivered = load_relaxed_gpu(p_.order.delivered + cell);
    }
    unsigned complete = __ballot_sync(kAllLanes, is_complete);
    for (; complete != 0; complete &= complete - 1) {
      const int lane = __ffs(static_cast<int>(complete)) - 1;
      const std::int32_t home = __shfl_sync(kAllLanes, mine_.source, lane);
      const std::int32_t block = __shfl_sync(kAllLanes, mine_.token, lane) / kTokenBlock;
      const unsigned long long due = __shfl_sync(kAllLanes, delivered, lane);
      if (lane_id() != 0) continue;
      state().signals.add(combine_slot_at(p, home, p.world.rank, state().push_panel, block), epoch_, due);
    }
  }

  // Home sums: by range of own blocks, panel, block, then units of the block.

  __device__ __forceinline__ void take_home() {
    const std::int32_t units = units_of_block();
    const std::uint32_t ticket = take_ticket(&p_.order.tickets->home);
    const auto blocks = static_cast<std::int32_t>(num_token_blocks(own_tokens()));
    // Where tokens complete in their order, so do blocks.
    const std::int32_t ranges = p_.choice.waves > 1 ? p_.choice.phases : 1;
    std::uint32_t base = state().home_base;
    for (std::int32_t range = state().home_range; range < ranges; ++range) {
      const std::int32_t first = phase_begin(blocks, ranges, range) * units;
      const std::int32_t count = phase_begin(blocks, ranges, range + 1) * units - first;
      const auto local = static_cast<std::int32_t>(ticket - base);
      if (local >= count * p_.num_panels) {
        base += static_cast<std::uint32_t>(count * p_.num_panels);
        continue;
      }
      home_hold_ = Hold::held;
      __syncwarp();
      if (lane_id() == 0) {
        state().home_range = range;
        state().home_base = base;
        state().home_panel = local / count;
        state().home_unit = first + local % count;
      }
      __syncwarp();
      return;
    }
    home_hold_ = Hold::over;
  }

  __device__ __forceinline__ std::int32_t own_tokens() const {
    return p_.call.tokens[p_.call.world.rank];
  }

  __device__ __forceinline__ std::int32_t units_of_block() const {
    return kTokenBlock / p_.choice.tokens_per_home;
  }

  __device__ __forceinline__ std::int32_t home_block() const {
    return state().home_unit / units_of_block();
  }

  // Whether all sources' partials are there, which are then acquired; else who is missing.
  __device__ __forceinline__ bool is_home_ready(std::int32_t& missing) const {
    const CallParams& p = call();
    const std::int32_t begin = p.plan.block_sources_begin[home_block()];
    const std::int32_t end = p.plan.block_sources_begin[home_block() + 1];
    for (std::int32_t first = begin; first < end; first += kLanes) {
      bool is_there = true;
      std::int32_t source = -1;
      const std::uint32_t* slot = nullptr;
      if (first + lane_id() < end) {
        source = p.plan.block_sources[first + lane_id()];
        slot = combine_slot_at(p, p.world.rank, source, state().home_panel, home_block());
        is_there = is_epoch_reached(load_relaxed_system(slot), epoch_);
      }
      const unsigned late = __ballot_sync(kAllLanes, !is_there);
      if (late != 0) {
        missing = __shfl_sync(kAllLanes, source, __ffs(static_cast<int>(late)) - 1);
        return false;
      }
      if (slot != nullptr) load_acquire_system(slot);
    }
    __syncwarp();
    return true;
  }

  __device__ __forceinline__ void sum_home() {
    const CallParams& p = call();
    const std::int32_t first_token = state().home_unit * p_.choice.tokens_per_home;
    if (first_token >= own_tokens()) return;
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
    const int total = __shfl_sync(kAllLanes, end, num_tokens - 1);
    const auto find = [&](Window& window, bool is_there, int offset) {
      const int from = __shfl_sync(kAllLanes, start, window.of);
      if (!is_there) return;
      const std::int32_t source = p.plan.token_sources[begin + from + offset];
      window.entry = static_cast<std::int32_t>(source * p.dims.max_tokens) + first_token + window.of;
      window.weight = 1.0F;
    };
    const auto* combine = reinterpret_cast<const T*>(p.peers[p.world.rank] + p.layout.combine);
    const auto store = [&](std::int32_t of, std::int64_t column, std::int32_t width,
                           const uint4& sum) {
      if (lane_id() * kRunOf16Bits >= width) return;
      auto* y = reinterpret_cast<T*>(p.y + (first_token + of) * p.y_stride_bytes) + column;
      store_run_unaligned(y + lane_id() * kRunOf16Bits, sum);
    };
    add_strips(
        state().home_panel, total,
        [&](int base) { return make_window(base, total, num_tokens, start, end, find); },
        [&](std::int32_t entry, std::int64_t column, std::int32_t width) {
          return combine + combine_index(p.dims, column, width, 0, 0) + entry * std::int64_t{width};
        },
        store);
    unsigned empty = __ballot_sync(kAllLanes, has_token && start == end);
    if (empty == 0) return;
    const ColumnRange panel = columns_of(p, state().home_panel);
    for (; empty != 0; empty &= empty - 1) {
      const int of = __ffs(static_cast<int>(empty)) - 1;
      for (std::int64_t column = panel.begin; column < panel.end; column += kStrip) {
        store(of, column, static_cast<std::int32_t>(min_of(kStrip, p.dims.hidden - column)),
              uint4{});
      }
    }
  }

  // Waiting.

  __device__ __forceinline__ void rest() {
    nap_ = kFirstNap;
    looks_ = 0;
    if (lane_id() != 0 || !state().has_told) return;
    tell_progress(call().world, epoch_, Stage::gemm_combine, -1);
    state().has_told = false;
  }

  // Naps ever longer, see wait_for_epoch; false if the world has failed or the time is over.
  __device__ __forceinline__ bool idle(std::int32_t missing) {
    constexpr int kIdlesPerLook = 16;
    if (looks_++ == 0 && lane_id() == 0) state().idle_since = global_timer();
    __nanosleep(nap_);
    if (nap_ < kLongestNap) nap_ *= 2;
    if (looks_ % kIdlesPerLook != 0) return true;
    int goes_on = 1;
    if (lane_id() == 0) goes_on = look(missing) ? 1 : 0;
    return __shfl_sync(kAllLanes, goes_on, 0) != 0;
  }

  // Lane 0.
  __device__ __forceinline__ bool look(std::int32_t missing) {
    constexpr unsigned long long kWorthTelling = 1'000'000;  // ns
    const DeviceWorld& world = call().world;
    const Outlook outlook = look_out(world);
    if (outlook.has_failed) return false;
    const unsigned long long waited = global_timer() - state().idle_since;
    const bool is_peer = missing >= 0 && missing != world.rank;
    if (waited >= world.timeout_ns) {
      report_expiry(world,
                    {.stage = Stage::gemm_combine,
                     .epoch = epoch_,
                     .source = is_peer ? missing : world.rank,
                     .panel = is_peer ? state().home_panel : state().push_panel,
                     .block = is_peer ? home_block() : 0},
                    epoch_ - 1);
      return false;
    }
    if (outlook.is_reporter && waited > kWorthTelling && is_peer) {
      tell_progress(world, epoch_, Stage::gemm_combine, missing);
      state().has_told = true;
    }
    return true;
  }

  static constexpr unsigned kFirstNap = 64;  // ns
  static constexpr unsigned kLongestNap = 2048;

  const OverlapParams& p_;
  const std::uint32_t epoch_;
  SumBuffers buffers_;

  Hold push_hold_ = Hold::none;
  Hold home_hold_ = Hold::none;
  TokenRows mine_{0, -1, 0, 0, 0};  // the lane's token of the push

  unsigned nap_ = kFirstNap;
  int looks_ = 0;
};

}  // namespace comet::cuda::overlap
