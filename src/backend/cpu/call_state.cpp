// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/call_state.hpp"

#include <algorithm>
#include <numeric>

#include "layout/panels.hpp"
#include "plan/tile_walk.hpp"

namespace comet {
namespace {

constexpr auto kAlwaysReady = [](std::int64_t) { return true; };

}  // namespace

void CallState::reset(const EngineCall& call, const LayerDims& dims, WorldView& world,
                      std::int64_t column_tiles) {
  call_ = &call;
  plan_ = call.plan;
  dims_ = &dims;
  world_ = &world;
  panels_ = cut_panels(dims, call.config).count();
  column_tiles_ = static_cast<std::int32_t>(column_tiles);
  slot_blocks_ = num_token_blocks(dims.max_tokens);
  gather_pieces_.clear();
  send_pieces_.clear();
  pull_pieces_.clear();
  second_pieces_.clear();
  push_pieces_.clear();
  home_pieces_.clear();
  tile_blocks_begin_.assign(plan_->num_tiles() + 1, 0);
  pushes_ready_.store(0, std::memory_order_relaxed);
  homes_possible_.store(0, std::memory_order_relaxed);
  arrived_.reset(plan_->num_tiles());
  first_done_.reset(plan_->num_tiles());
  group_arrived_.reset(plan_->num_groups());
  group_first_.reset(plan_->num_groups());
  group_second_.reset(plan_->num_groups());
}

void CallState::prepare(const EngineCall& call, const LayerDims& dims, WorldView& world,
                        std::int64_t column_tiles) {
  reset(call, dims, world, column_tiles);
  list_transfers();
  list_gemms();
  list_home_sums();
  count_pieces();
  count_push_waits();
}

void CallState::prepare_compute(const EngineCall& call, const LayerDims& dims, WorldView& world,
                                std::int64_t column_tiles) {
  reset(call, dims, world, column_tiles);
  list_gemms();
  count_pieces();
  for (std::int64_t t = 0; t < plan_->num_tiles(); ++t) {
    arrived_[t].store(plan_->tiles[t].rows, std::memory_order_relaxed);
  }
  for (std::int32_t g = 0; g < plan_->num_groups(); ++g) {
    group_arrived_[g].store(tiles_in_group(g), std::memory_order_relaxed);
  }
}

void CallState::list_transfers() {
  list_sends(*call_, *dims_, *world_, send_pieces_);
  const auto num_blocks = static_cast<std::int32_t>(plan_->blocks.size());
  const auto chunk = static_cast<std::int32_t>(call_->config.chunk);
  for (std::int32_t b = 0; b < num_blocks; ++b) {
    const BlockTransfer& block = plan_->blocks[b];
    if (block.source == dims_->rank) {
      gather_pieces_.push_back({b, block.needed_begin, block.needed_end});
      continue;
    }
    for (std::int32_t begin = block.needed_begin; begin < block.needed_end; begin += chunk) {
      pull_pieces_.push_back({b, begin, std::min(begin + chunk, block.needed_end)});
    }
  }
  for (std::int64_t g = 0; g < plan_->num_groups(); ++g) {
    // Own partials cross no link, so they go last.
    for (const bool own : {false, true}) {
      for (std::int32_t panel = 0; panel < panels_; ++panel) {
        for (std::int32_t b = plan_->group_blocks[g]; b < plan_->group_blocks[g + 1]; ++b) {
          if ((plan_->blocks[b].source == dims_->rank) == own) push_pieces_.push_back({b, panel});
        }
      }
    }
  }
}

void CallState::list_gemms() {
  for (std::int64_t g = 0; g < plan_->num_groups(); ++g) {
    const std::int32_t begin = plan_->group_tiles[g];
    const std::int64_t tiles = plan_->group_tiles[g + 1] - begin;
    std::int64_t own_tiles = 0;  // the walk begins with what needs no other rank
    while (own_tiles < tiles && plan_->tiles[plan_->walk[begin + own_tiles]].step == 0) ++own_tiles;
    for (std::int64_t i = 0; i < tiles * panels_; ++i) {
      const WalkItem item = combine_walk_item(i, own_tiles, tiles, panels_);
      second_pieces_.push_back({plan_->walk[begin + item.tile], item.part});
    }
  }
}

void CallState::list_home_sums() {
  const std::int64_t blocks = static_cast<std::int64_t>(plan_->block_sources_begin.size()) - 1;
  const std::int64_t groups = plan_->num_groups();
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t end = group_block_begin(blocks, groups, g + 1);
    for (std::int32_t panel = 0; panel < panels_; ++panel) {
      for (std::int64_t b = group_block_begin(blocks, groups, g); b < end; ++b) {
        home_pieces_.push_back({static_cast<std::int32_t>(b), panel});
        const auto sources = plan_->block_sources.begin();
        const bool waits_for_own =
            std::binary_search(sources + plan_->block_sources_begin[b],
                               sources + plan_->block_sources_begin[b + 1], dims_->rank);
        if (!waits_for_own) homes_possible_.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }
}

// Turns the plan's list of tiles of each block into the blocks of each tile.
void CallState::count_push_waits() {
  const auto num_blocks = static_cast<std::int32_t>(plan_->blocks.size());
  push_waits_.reset(std::int64_t{num_blocks} * panels_);
  for (const std::int32_t tile : plan_->block_tiles) ++tile_blocks_begin_[tile];
  std::partial_sum(tile_blocks_begin_.begin(), tile_blocks_begin_.end(),
                   tile_blocks_begin_.begin());
  tile_blocks_.resize(plan_->block_tiles.size());
  for (std::int32_t b = num_blocks - 1; b >= 0; --b) {
    const BlockTransfer& block = plan_->blocks[b];
    for (std::int32_t i = block.tile_begin; i < block.tile_end; ++i) {
      tile_blocks_[--tile_blocks_begin_[plan_->block_tiles[i]]] = b;
    }
    for (std::int32_t panel = 0; panel < panels_; ++panel) {
      push_waits_[std::int64_t{b} * panels_ + panel].store(block.tile_end - block.tile_begin,
                                                           std::memory_order_relaxed);
    }
  }
}

void CallState::count_pieces() {
  const auto size = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  gathers_.reset(size(gather_pieces_), 1);
  sends_.reset(size(send_pieces_), 1);
  pulls_.reset(size(pull_pieces_), 1);
  // One entry per tile in walk order: the cut along rows has a ready tile's columns follow each
  // other (walk_item), so they are the parts of one entry.
  static_assert(kDispatchGemm.axis == Axis::rows);
  firsts_.reset(plan_->num_tiles(), column_tiles_);
  seconds_.reset(size(second_pieces_), 1);
  pushes_.reset(size(push_pieces_), 1);
  homes_.reset(size(home_pieces_), 1);
  pulls_open_.store(pulls_.num_pieces(), std::memory_order_relaxed);
  remaining_.store(gathers_.num_pieces() + sends_.num_pieces() + pulls_.num_pieces() +
                       firsts_.num_pieces() + seconds_.num_pieces() + pushes_.num_pieces() +
                       homes_.num_pieces(),
                   std::memory_order_relaxed);
}

std::int32_t CallState::tiles_in_group(std::int32_t group) const {
  return plan_->group_tiles[group + 1] - plan_->group_tiles[group];
}

std::uint32_t* CallState::sent_slot_of(const BlockTransfer& block) const {
  auto* slots = reinterpret_cast<std::uint32_t*>(call_->peers[dims_->rank] + call_->layout.sent);
  return slots + sent_slot(block.source, block.block, slot_blocks_);
}

// What lies on this host is there since its rank published.
bool CallState::pull_ready(const PullPiece& piece) const {
  const BlockTransfer& block = plan_->blocks[piece.block];
  return !world_->is_remote(block.source) || has_reached(sent_slot_of(block), call_->epoch);
}

bool CallState::first_ready(std::int64_t walk_idx) const {
  const std::int32_t tile = plan_->walk[walk_idx];
  const std::int32_t group = plan_->tiles[tile].group;
  if (call_->gate == Gate::group) {
    return group_arrived_[group].load(std::memory_order_acquire) == tiles_in_group(group);
  }
  return arrived_[tile].load(std::memory_order_acquire) == plan_->tiles[tile].rows;
}

bool CallState::second_ready(const TilePanel& piece) const {
  const std::int32_t group = plan_->tiles[piece.tile].group;
  if (call_->gate == Gate::group) {
    return group_first_[group].load(std::memory_order_acquire) == tiles_in_group(group);
  }
  return first_done_[piece.tile].load(std::memory_order_acquire) == column_tiles_;
}

bool CallState::push_ready(const PushPiece& piece) const {
  if (call_->gate == Gate::group) {
    const std::int32_t group = plan_->blocks[piece.block].group;
    return pulls_open_.load(std::memory_order_acquire) == 0 &&
           group_second_[group].load(std::memory_order_acquire) == tiles_in_group(group) * panels_;
  }
  const std::int64_t push = std::int64_t{piece.block} * panels_ + piece.panel;
  return push_waits_[push].load(std::memory_order_acquire) == 0;
}

std::uint32_t* CallState::combine_slot_at(std::int32_t home, std::int32_t source,
                                          std::int64_t panel, std::int64_t block) const {
  auto* slots = reinterpret_cast<std::uint32_t*>(call_->peers[home] + call_->layout.combine_slots);
  return slots + combine_slot(source, panel, block, panels_, slot_blocks_);
}

bool CallState::has_reached_all(std::int64_t panel, std::int64_t block,
                                std::int32_t* missing) const {
  for (std::int32_t i = plan_->block_sources_begin[block];
       i < plan_->block_sources_begin[block + 1]; ++i) {
    const std::int32_t source = plan_->block_sources[i];
    if (!has_reached(combine_slot_at(dims_->rank, source, panel, block), call_->epoch)) {
      if (missing != nullptr) *missing = source;
      return false;
    }
  }
  return true;
}

bool CallState::home_ready(const HomePiece& piece) const {
  return has_reached_all(piece.panel, piece.block, nullptr);
}

std::optional<CallState::Missing> CallState::missing() const {
  const auto seen = [](std::uint32_t* slot) {
    return std::atomic_ref(*slot).load(std::memory_order_relaxed);
  };
  for (const PullPiece& piece : pull_pieces_) {
    if (pull_ready(piece)) continue;
    const BlockTransfer& block = plan_->blocks[piece.block];
    return Missing{block.source, -1, block.block, seen(sent_slot_of(block))};
  }
  for (const HomePiece& piece : home_pieces_) {
    std::int32_t source = 0;
    if (has_reached_all(piece.panel, piece.block, &source)) continue;
    return Missing{source, piece.panel, piece.block,
                   seen(combine_slot_at(dims_->rank, source, piece.panel, piece.block))};
  }
  return std::nullopt;
}

std::optional<PullPiece> CallState::take_gather(std::uint32_t rung) {
  const auto piece = gathers_.take(rung, kAlwaysReady);
  return piece ? std::optional(gather_pieces_[piece->entry]) : std::nullopt;
}

std::optional<PullPiece> CallState::take_pull(std::uint32_t rung) {
  const auto piece =
      pulls_.take(rung, [this](std::int64_t i) { return pull_ready(pull_pieces_[i]); });
  return piece ? std::optional(pull_pieces_[piece->entry]) : std::nullopt;
}

std::optional<SendPiece> CallState::take_send(std::uint32_t rung) {
  const auto piece = sends_.take(rung, kAlwaysReady);
  return piece ? std::optional(send_pieces_[piece->entry]) : std::nullopt;
}

std::optional<ReadyList::Piece> CallState::take_first(std::uint32_t rung) {
  auto piece = firsts_.take(rung, [this](std::int64_t i) { return first_ready(i); });
  if (piece) piece->entry = plan_->walk[piece->entry];
  return piece;
}

std::optional<TilePanel> CallState::take_second(std::uint32_t rung) {
  const auto piece =
      seconds_.take(rung, [this](std::int64_t i) { return second_ready(second_pieces_[i]); });
  return piece ? std::optional(second_pieces_[piece->entry]) : std::nullopt;
}

std::optional<PushPiece> CallState::take_push(std::uint32_t rung) {
  if (pushes_ready_.load(std::memory_order_acquire) <= 0) return std::nullopt;
  const auto piece =
      pushes_.take(rung, [this](std::int64_t i) { return push_ready(push_pieces_[i]); });
  if (!piece) return std::nullopt;
  pushes_ready_.fetch_sub(1, std::memory_order_relaxed);
  return push_pieces_[piece->entry];
}

std::optional<HomePiece> CallState::take_home(std::uint32_t rung) {
  if (homes_possible_.load(std::memory_order_acquire) <= 0) return std::nullopt;
  const auto piece =
      homes_.take(rung, [this](std::int64_t i) { return home_ready(home_pieces_[i]); });
  if (!piece) return std::nullopt;
  homes_possible_.fetch_sub(1, std::memory_order_relaxed);
  return home_pieces_[piece->entry];
}

std::int32_t CallState::first_group() const noexcept {
  const std::int64_t head = firsts_.head();  // read once: others move it
  if (head >= firsts_.num_entries()) return static_cast<std::int32_t>(plan_->num_groups());
  return plan_->tiles[plan_->walk[head]].group;
}

std::int32_t CallState::second_group() const noexcept {
  const std::int64_t head = seconds_.head();
  if (head >= seconds_.num_entries()) return static_cast<std::int32_t>(plan_->num_groups());
  return plan_->tiles[second_pieces_[head].tile].group;
}

void CallState::rows_arrived(std::int64_t tile, std::int32_t rows) {
  const Tile& arrived = plan_->tiles[tile];
  if (arrived_[tile].fetch_add(rows, std::memory_order_acq_rel) + rows != arrived.rows) return;
  group_arrived_[arrived.group].fetch_add(1, std::memory_order_acq_rel);
  world_->doorbell().ring();
}

void CallState::pull_done() {
  if (pulls_open_.fetch_sub(1, std::memory_order_acq_rel) == 1) world_->doorbell().ring();
  piece_done();
}

void CallState::first_done(std::int64_t tile) {
  if (first_done_[tile].fetch_add(1, std::memory_order_acq_rel) + 1 == column_tiles_) {
    group_first_[plan_->tiles[tile].group].fetch_add(1, std::memory_order_acq_rel);
    world_->doorbell().ring();
  }
  piece_done();
}

void CallState::second_done(const TilePanel& piece) {
  for (std::int32_t i = tile_blocks_begin_[piece.tile]; i < tile_blocks_begin_[piece.tile + 1];
       ++i) {
    const std::int64_t push = std::int64_t{tile_blocks_[i]} * panels_ + piece.panel;
    if (push_waits_[push].fetch_sub(1, std::memory_order_acq_rel) == 1) {
      pushes_ready_.fetch_add(1, std::memory_order_acq_rel);
    }
  }
  group_second_[plan_->tiles[piece.tile].group].fetch_add(1, std::memory_order_acq_rel);
  world_->doorbell().ring();
  piece_done();
}

void CallState::push_done(const PushPiece& piece) {
  if (plan_->blocks[piece.block].source == dims_->rank) {
    homes_possible_.fetch_add(1, std::memory_order_acq_rel);
    world_->doorbell().ring();
  }
  piece_done();
}

void CallState::piece_done() {
  if (remaining_.fetch_sub(1, std::memory_order_acq_rel) == 1) world_->doorbell().ring();
}

}  // namespace comet
