// SPDX-License-Identifier: Apache-2.0
// Partial sums to their home ranks, or of a world of one rank to y, by single warps.
#pragma once

#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/kernels/combine_parts.cuh"
#include "backend/cuda/kernels/overlap_copies.cuh"

namespace comet::cuda::overlap {

/// What a warp keeps of its pushes in shared memory, to save registers. Lane 0 writes it.
struct PushState {
  PendingSignals<8> signals;
  std::int32_t part;   ///< Of the present push, as what follows.
  std::uint32_t base;  ///< First ticket of the part.
  std::int32_t num_sent;
  std::int32_t num_own;
  std::int32_t panel;
  std::int32_t num_tokens;
  std::int32_t total;        ///< Entries.
  std::int32_t first_count;  ///< Those of the first window.
  bool takes_ahead;          ///< Whether the next ticket is taken before the push is made.
};

/// A warp's pushes. It holds at most one, and while it makes it the ticket of the next: tickets are
/// by part, panel, then units of tokens of other ranks and of own ones. A part is a phase, but that
/// the last phase's last panel is a part of its own, with smaller units. Whose next ticket is one of
/// these takes it when it comes to it: by then most warps are free, and need not wait for one that
/// has a large unit to end. `STATE` finds the calling warp's PushState: a reference would cost
/// registers.
template <typename T, PushState& (*STATE)()>
class Pushes {
 public:
  __device__ __forceinline__ explicit Pushes(const OverlapParams& p) : p_(p) {
    if (lane_id() == 0) {
      state().signals.clear();
      enter_part(0, 0);
    }
    __syncwarp();
    is_paced_ = *p.call.world.ns_per_byte > 0;
    find_unit(take_ticket(&p_.order.tickets->push));
  }

  /// Whether no push is left to take.
  __device__ __forceinline__ bool is_over() const { return is_over_; }

  /// Whether the held push may be made. It is then acquired.
  __device__ __forceinline__ bool is_ready() {
    if (is_over_ || !may_push()) return false;
    if (!has_rows_) find_rows();
    const std::uint32_t wanted = columns_of_panel();
    const std::int32_t total = state().total;
    // The last entry of the order is not known to be the last one done, so all are looked at.
    if (!all_done(lane_id() < state().first_count ? done_of(row_) : nullptr, wanted)) return false;
    for (int begin = state().first_count; begin < total;) {
      const Places places = places_from(begin);
      const std::int32_t row = row_of(places);
      if (!all_done(places.has_entry() ? done_of(row) : nullptr, wanted)) return false;
      begin = places.end;
    }
    fence_acq_rel_gpu();  // each lane acquires the entries that it has looked at
    __syncwarp();         // and with them those that others have
    return true;
  }

  /// Makes the push that is ready and takes the next.
  __device__ __forceinline__ void push(const SumBuffers& buffers) {
    const CallParams& p = call();
    const unsigned long long begin = trace_begin(p.trace);
    const std::int32_t panel = state().panel;
    const std::int32_t total = state().total;
    book(panel);
    // Takes a microsecond or two, as the list does: they come while other things are done.
    const bool takes_ahead = state().takes_ahead;
    std::uint32_t next = 0;
    if (takes_ahead && lane_id() == 0) next = atomicAdd(&p_.order.tickets->push, 1U);
    const Strips strips = strips_of(columns_of(p, panel), p.dims.hidden);
    const bool is_y = pushes_write_y(p);
    RowPlace<std::byte> target{p.y + mine_.token * p.y_stride_bytes, 0};  // of the lane's token
    std::int64_t bytes_per_column = kElementBytes;
    std::int32_t needed = 0;
    if (!is_y) {
      target = {mine_.source >= 0 ? p.peers[mine_.source] + p.layout.combine : nullptr,
                static_cast<std::int32_t>(p.world.rank * p.dims.max_tokens + mine_.token)};
      bytes_per_column *= std::int64_t{p.dims.world} * p.dims.max_tokens;
      needed = mine_.source >= 0 ? p_.order.block_needed[block_of(mine_)] : 0;
    }
    const bool is_aligned = !is_y || is_y_aligned(p);
    add_entries<T>(buffers, strips, total, mine_.num_rows, is_aligned, [&](int begin) {
      const Places places = places_from(begin);
      const std::int32_t row = begin == 0 ? row_ : row_of(places);
      const auto to =
          __shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(target.base), places.of);
      return Window{
          .from = p.out,
          .from_row = static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(p.dims.hidden / kRunOf16Bits),
          .from_cell = 0,
          .from_cells = 1,
          .to = {reinterpret_cast<std::byte*>(to), __shfl_sync(kAllLanes, target.cell, places.of)},
          .to_bytes_per_column = bytes_per_column,
          .weight = p.weights_after_down ? p.row_weights[row] : 1.0F,
          .last = places.last,
          .count = places.end - begin};
    });
    __syncwarp();
    const TokenRows done = mine_;
    if (takes_ahead) find_unit(__shfl_sync(kAllLanes, next, 0));
    if (!is_y) complete_blocks(done, panel, static_cast<std::uint32_t>(needed));
    if (!takes_ahead) find_unit(take_ticket(&p_.order.tickets->push));
    if (lane_id() == 0) {
      trace_end(p.trace, begin, TraceKind::push, copy_worker(), done.last_tile, panel);
    }
  }

  __device__ __forceinline__ void send_due() const {
    if (lane_id() == 0) state().signals.send_due(epoch());
  }
  __device__ __forceinline__ void send_all() const {
    if (lane_id() == 0) state().signals.send_all(epoch());
  }
  /// Whether the emulated link has yet to deliver what this warp has pushed.
  __device__ __forceinline__ bool is_link_behind() const {
    if (!is_paced_) return false;
    const int is_behind = lane_id() == 0 && !state().signals.is_empty() ? 1 : 0;
    return __shfl_sync(kAllLanes, is_behind, 0) != 0;
  }
  __device__ __forceinline__ std::int32_t panel() const { return state().panel; }

 private:
  static constexpr int kElementBytes = sizeof(T);

  __device__ __forceinline__ const CallParams& call() const { return p_.call; }
  __device__ __forceinline__ static PushState& state() { return STATE(); }
  __device__ __forceinline__ std::uint32_t epoch() const { return p_.call.state->epoch; }

  __device__ __forceinline__ bool is_last(std::int32_t part) const {
    return part == p_.choice.phases;
  }
  __device__ __forceinline__ std::int32_t phase_of(std::int32_t part) const {
    return is_last(part) ? part - 1 : part;
  }

  // Lane 0.
  __device__ __forceinline__ void enter_part(std::int32_t part, std::uint32_t base) const {
    state().part = part;
    state().base = base;
    if (part > p_.choice.phases) return;
    state().num_sent = p_.order.num_sent[phase_of(part)];
    state().num_own = p_.order.num_own[phase_of(part)];
  }

  // Beside products; of dedicated blocks others push too.
  __device__ __forceinline__ static std::int32_t pushing_warps() {
    return kCopyWarps * static_cast<std::int32_t>(gridDim.x);
  }

  __device__ __forceinline__ static std::int32_t units_of(std::int32_t count, std::int32_t tokens) {
    return (count + tokens - 1) / tokens;
  }

  __device__ __forceinline__ void find_unit(std::uint32_t ticket) {
    has_rows_ = false;
    mine_ = TokenRows{0, -1, 0, 0, 0};
    for (;;) {
      const std::int32_t part = state().part;
      if (part > p_.choice.phases) {
        is_over_ = true;
        return;
      }
      const bool is_last_part = is_last(part);
      const std::int32_t tokens =
          is_last_part ? p_.choice.tokens_per_last_push : p_.choice.tokens_per_push;
      const std::int32_t panels = is_last_part                   ? 1
                                  : part + 1 == p_.choice.phases ? p_.num_panels - 1
                                                                 : p_.num_panels;
      const std::int32_t num_sent = state().num_sent;
      const std::int32_t num_own = state().num_own;
      const std::int32_t sent_units = units_of(num_sent, tokens);
      const std::int32_t units = sent_units + units_of(num_own, tokens);
      const std::uint32_t base = state().base;
      const auto local = static_cast<std::int32_t>(ticket - base);
      __syncwarp();
      if (local >= units * panels) {
        if (lane_id() == 0) {
          enter_part(part + 1, base + static_cast<std::uint32_t>(units * panels));
        }
        __syncwarp();
        continue;
      }
      const std::int32_t panel = local / units;  // of the part
      const std::int32_t unit = local - panel * units;
      const bool is_own = unit >= sent_units;
      const std::int32_t first = (is_own ? unit - sent_units : unit) * tokens;
      const std::int32_t left = (is_own ? num_own : num_sent) - first;
      const std::int32_t count = left < tokens ? left : tokens;
      const TokenRows* list = is_own ? p_.order.own + phase_of(part) * p_.order.own_stride
                                     : p_.order.sent + phase_of(part) * p_.order.sent_stride;
      if (lane_id() < count) mine_ = list[first + lane_id()];
      if (lane_id() == 0) {
        state().panel = is_last_part ? p_.num_panels - 1 : panel;
        state().num_tokens = count;
        state().takes_ahead =
            is_last_part || part + 1 < p_.choice.phases || local + pushing_warps() < units * panels;
      }
      __syncwarp();
      return;
    }
  }

  // Of the lane's token, where its entries end among all.
  __device__ __forceinline__ int entries_end() const {
    int end = mine_.num_rows;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const int before = __shfl_up_sync(kAllLanes, end, distance);
      if (lane_id() >= distance) end += before;
    }
    return end;
  }

  __device__ __forceinline__ Places places_from(int begin) const {
    const int end = entries_end();
    return place_entries(begin, state().num_tokens, end - mine_.num_rows, end);
  }

  __device__ __forceinline__ std::int32_t row_of(const Places& places) const {
    const std::int32_t begin = __shfl_sync(kAllLanes, mine_.row_begin, places.of);
    return places.has_entry() ? call().plan.rows[begin + places.offset].row : 0;
  }

  // The rows of the first window.
  __device__ __forceinline__ void find_rows() {
    const int total = __shfl_sync(kAllLanes, entries_end(), kLanes - 1);
    const Places places = places_from(0);
    row_ = row_of(places);
    if (lane_id() == 0) {
      state().total = total;
      state().first_count = places.end;
    }
    __syncwarp();
    has_rows_ = true;
  }

  // While products wait for rows, pulls have the link for themselves: only products make more to
  // push.
  __device__ __forceinline__ bool may_push() {
    if (no_pulls_left_) return true;
    // Lanes may see different counts, and must do alike.
    no_pulls_left_ = __any_sync(kAllLanes, has_pulls_left(p_)) == 0;
    return no_pulls_left_ || __shfl_sync(kAllLanes, mine_.source, 0) == call().world.rank ||
           __all_sync(kAllLanes, load_relaxed_gpu(&p_.order.tickets->starved) == 0) != 0;
  }

  __device__ __forceinline__ std::uint32_t columns_of_panel() const {
    const ColumnRange panel = columns_of(call(), state().panel);
    return static_cast<std::uint32_t>(ceil_div(panel.end - panel.begin, kGemmBlockN));
  }

  // Counts the panel's column tiles that are done in a row's tile.
  __device__ __forceinline__ const std::uint32_t* done_of(std::int32_t row) const {
    const auto tile = row / static_cast<std::int32_t>(call().dims.block_m);
    return p_.order.second_done + tile * p_.num_panels + state().panel;
  }

  __device__ __forceinline__ static bool all_done(const std::uint32_t* done, std::uint32_t wanted) {
    return __all_sync(kAllLanes, done == nullptr || load_relaxed_gpu(done) >= wanted) != 0;
  }

  // Of the token's home rank and its block there.
  __device__ __forceinline__ std::int64_t block_of(const TokenRows& token) const {
    return token.source * std::int64_t{p_.order.home_blocks} + token.token / kTokenBlock;
  }
  __device__ __forceinline__ std::int64_t cell_of(const TokenRows& token,
                                                  std::int32_t panel) const {
    return block_of(token) * p_.num_panels + panel;
  }

  // Books the lanes' partials on the paced link, by home rank. A block's signal waits for the
  // latest of its transfers.
  __device__ __forceinline__ void book(std::int32_t panel) const {
    const CallParams& p = call();
    if (!is_paced_) return;
    const ColumnRange columns = columns_of(p, panel);
    const unsigned same = __match_any_sync(kAllLanes, static_cast<int>(mine_.source));
    const int leader = __ffs(static_cast<int>(same)) - 1;
    unsigned long long delivered = 0;
    if (mine_.source >= 0 && lane_id() == leader) {
      const std::int64_t bytes = __popc(same) * (columns.end - columns.begin) * kElementBytes;
      delivered = book_transfer(p.world, p.world.rank, mine_.source, bytes);
      trace_transfer(p, TraceKind::link_push, delivered, bytes, mine_.source, panel);
    }
    delivered = __shfl_sync(kAllLanes, delivered, leader);
    if (delivered != 0) atomicMax(p_.order.delivered + cell_of(mine_, panel), delivered);
    __syncwarp();
  }

  // Counts the lanes' tokens of each block, and signals blocks whose last partials these were.
  // `needed` of the block's tokens have partials.
  __device__ __forceinline__ void complete_blocks(const TokenRows& mine, std::int32_t panel,
                                                  std::uint32_t needed) const {
    const CallParams& p = call();
    const std::int64_t cell = cell_of(mine, panel);
    const unsigned same = __match_any_sync(kAllLanes, static_cast<int>(cell));
    unsigned long long delivered = 0;
    bool is_complete = false;
    if (mine.source >= 0 && lane_id() == __ffs(static_cast<int>(same)) - 1) {
      const auto count = static_cast<std::uint32_t>(__popc(same));
      is_complete = fetch_add_acq_rel_gpu(p_.order.pushed + cell, count) + count == needed;
      if (is_complete) delivered = load_relaxed_gpu(p_.order.delivered + cell);
    }
    __syncwarp();  // a vote orders no memory, and lane 0 signals what other lanes have acquired
    unsigned complete = __ballot_sync(kAllLanes, is_complete);
    for (; complete != 0; complete &= complete - 1) {
      const int lane = __ffs(static_cast<int>(complete)) - 1;
      const std::int32_t home = __shfl_sync(kAllLanes, mine.source, lane);
      const std::int32_t block = __shfl_sync(kAllLanes, mine.token, lane) / kTokenBlock;
      const unsigned long long due = __shfl_sync(kAllLanes, delivered, lane);
      if (lane_id() != 0) continue;
      state().signals.add(combine_slot_at(p, home, p.world.rank, panel, block), epoch(), due);
    }
  }

  const OverlapParams& p_;
  TokenRows mine_{0, -1, 0, 0, 0};  // the lane's token of the held push
  std::int32_t row_ = 0;            // of the lane's entry, if has_rows_
  bool has_rows_ = false;
  bool is_over_ = false;
  bool no_pulls_left_ = false;
  bool is_paced_ = false;
};

}  // namespace comet::cuda::overlap
