// SPDX-License-Identifier: Apache-2.0
// CallState: the work lists of one call, the counters that say what is done, and from these what is
// ready. It moves no data.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "backend/cpu/atomic_array.hpp"
#include "backend/cpu/engine_call.hpp"
#include "backend/cpu/ready_list.hpp"
#include "backend/cpu/remote_ops.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// Tokens [needed_begin, needed_end) of Plan::needed, all of one block: one transfer of dispatch.
struct PullPiece {
  std::int32_t block;  ///< Index into Plan::blocks.
  std::int32_t needed_begin;
  std::int32_t needed_end;
};

struct TilePanel {
  std::int32_t tile;
  std::int32_t panel;
};

/// The partials of a block's tokens for one panel: one transfer and one signal of combine.
struct PushPiece {
  std::int32_t block;  ///< Index into Plan::blocks.
  std::int32_t panel;
};

/// The final sum of 64 own tokens for one panel.
struct HomePiece {
  std::int32_t block;  ///< Own block of tokens.
  std::int32_t panel;
};

class CallState {
 public:
  /// Lists the work of `call`. `column_tiles` are those of the first GEMM.
  void prepare(const EngineCall& call, const LayerDims& dims, WorldView& world,
               std::int64_t column_tiles);

  /// Lists only the two GEMMs, with all rows taken as arrived.
  void prepare_compute(const EngineCall& call, const LayerDims& dims, WorldView& world,
                       std::int64_t column_tiles);

  // Taking work: the first ready piece in its order, or nothing. `rung` as in ReadyList::take.
  std::optional<PullPiece> take_gather(std::uint32_t rung);  ///< A block of own tokens.
  std::optional<SendPiece> take_send(std::uint32_t rung);
  std::optional<PullPiece> take_pull(std::uint32_t rung);
  std::optional<ReadyList::Piece> take_first(
      std::uint32_t rung);  ///< entry: tile index, part: column tile.
  std::optional<TilePanel> take_second(std::uint32_t rung);
  std::optional<PushPiece> take_push(std::uint32_t rung);
  std::optional<HomePiece> take_home(std::uint32_t rung);

  // Telling what is done. Each releases the caller's writes to whoever takes what it makes ready.
  void rows_arrived(std::int64_t tile, std::int32_t rows);
  void gather_done() { piece_done(); }
  void send_done() { piece_done(); }
  void pull_done();
  void first_done(std::int64_t tile);
  void second_done(const TilePanel& piece);
  void push_done(const PushPiece& piece);
  void home_done() { piece_done(); }

  bool finished() const noexcept { return remaining_.load(std::memory_order_acquire) == 0; }
  bool pulls_left() const noexcept { return !pulls_.exhausted(); }
  bool compute_left() const noexcept { return !firsts_.exhausted() || !seconds_.exhausted(); }
  /// Group of the first unclaimed tile of each GEMM; the number of groups if none is left.
  std::int32_t first_group() const noexcept;
  std::int32_t second_group() const noexcept;
  /// Counts finished pieces: a rank whose count stands still makes no progress.
  std::int64_t remaining() const noexcept { return remaining_.load(std::memory_order_relaxed); }

  /// What this rank still lacks of another one, for the sentence of an expired wait.
  struct Missing {
    std::int32_t source;
    std::int32_t panel;  ///< Of partials of own tokens; -1: tokens of a source on another host.
    std::int32_t block;  ///< Of 64 tokens, own ones or the source's.
    std::uint32_t seen;  ///< Epoch in the slot.
  };
  std::optional<Missing> missing() const;

  std::uint32_t* combine_slot_at(std::int32_t home, std::int32_t source, std::int64_t panel,
                                 std::int64_t block) const;
  const EngineCall& call() const noexcept { return *call_; }

 private:
  void reset(const EngineCall& call, const LayerDims& dims, WorldView& world,
             std::int64_t column_tiles);
  void list_gemms();
  void list_transfers();
  void list_home_sums();
  void count_pieces();
  void count_push_waits();
  bool pull_ready(const PullPiece& piece) const;
  bool first_ready(std::int64_t walk_idx) const;
  bool second_ready(const TilePanel& piece) const;
  bool push_ready(const PushPiece& piece) const;
  bool home_ready(const HomePiece& piece) const;
  bool has_reached_all(std::int64_t panel, std::int64_t block, std::int32_t* missing) const;
  std::uint32_t* sent_slot_of(const BlockTransfer& block) const;
  std::int32_t tiles_in_group(std::int32_t group) const;
  void piece_done();

  const EngineCall* call_ = nullptr;
  const Plan* plan_ = nullptr;
  const LayerDims* dims_ = nullptr;
  WorldView* world_ = nullptr;
  std::int32_t panels_ = 1;
  std::int32_t column_tiles_ = 1;
  std::int64_t slot_blocks_ = 0;  ///< Token blocks of max_tokens.

  std::vector<PullPiece> gather_pieces_;
  std::vector<SendPiece> send_pieces_;
  std::vector<PullPiece> pull_pieces_;
  std::vector<TilePanel> second_pieces_;
  std::vector<PushPiece> push_pieces_;
  std::vector<HomePiece> home_pieces_;
  ReadyList gathers_, sends_, pulls_, firsts_, seconds_, pushes_, homes_;

  AtomicArray arrived_;        ///< [tiles] rows there
  AtomicArray first_done_;     ///< [tiles] column tiles done
  AtomicArray push_waits_;     ///< [blocks, panels] tiles of a push that are not done
  AtomicArray group_arrived_;  ///< [groups] tiles with all rows there
  AtomicArray group_first_;    ///< [groups] tiles with all columns of the first GEMM done
  AtomicArray group_second_;   ///< [groups] (tile, panel) done
  std::vector<std::int32_t> tile_blocks_begin_;  ///< [tiles + 1]
  std::vector<std::int32_t> tile_blocks_;        ///< Of each tile, the blocks with rows in it.
  std::atomic<std::int64_t> pulls_open_{0};
  // A search costs more than a look at these: unclaimed pushes whose tiles are done, and unclaimed
  // home sums that lack no partial of the own rank.
  std::atomic<std::int64_t> pushes_ready_{0};
  std::atomic<std::int64_t> homes_possible_{0};
  std::atomic<std::int64_t> remaining_{0};
};

}  // namespace comet
