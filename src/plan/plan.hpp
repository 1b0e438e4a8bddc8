// SPDX-License-Identifier: Apache-2.0
// Plan: who does what in which order in one call on one rank, as data. Built from the ids of all
// ranks, never communicated.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/problem.hpp"
#include "plan/row_order.hpp"

namespace comet {

/// block_m row slots of one local expert, of which the first `rows` are used. Row slots are
/// numbered tile by tile, so a tile's slots begin at index * block_m.
struct Tile {
  std::int32_t group;
  std::int32_t expert;  ///< Local index.
  std::int32_t rows;  ///< Expected arrivals: the tile may be computed when so many rows are there.
  std::int32_t step;  ///< Readiness: the last source it waits for is source_at_step(step).
  std::int32_t last_block;  ///< Index into Plan::blocks: the transfer that completes it.
};

/// The tokens of one (source rank, block of 64) that this rank needs: the unit of transfers. They
/// are pulled from there in dispatch, and their partials are pushed and signalled there in combine.
struct BlockTransfer {
  std::int32_t group;
  std::int32_t source;  ///< Home rank of the tokens.
  std::int32_t block;
  std::int32_t needed_begin;  ///< Range of Plan::needed.
  std::int32_t needed_end;
  std::int32_t tile_begin;  ///< Range of Plan::block_tiles: the tiles that hold their rows.
  std::int32_t tile_end;
};

/// Vectors keep their capacity from call to call, so a plan of a seen size allocates nothing.
struct Plan {
  std::vector<Tile> tiles;                ///< By (group, expert, row).
  std::vector<std::int32_t> group_tiles;  ///< [groups + 1] first tile of each group.
  std::vector<std::int32_t> walk;     ///< Tiles by (last_block, expert, row): as they get ready.
  std::vector<NeededToken> needed;    ///< By (group, step, token); one past the end is a guard.
  std::vector<NeededRow> rows;        ///< Of each needed token, in expert order.
  std::vector<BlockTransfer> blocks;  ///< Non-empty ones by (group, step, block).
  std::vector<std::int32_t> group_blocks;  ///< [groups + 1] first of `blocks` of each group.
  std::vector<std::int32_t> block_tiles;   ///< Lists of tile indices, see BlockTransfer.

  // The home rank's side: whose partials each own token and each own block of 64 waits for.
  std::vector<std::int32_t> token_sources_begin;  ///< [tokens + 1]
  std::vector<std::int32_t> token_sources;        ///< Ranks, ascending per token.
  std::vector<std::int32_t> block_sources_begin;  ///< [blocks + 1]
  std::vector<std::int32_t> block_sources;        ///< Ranks, ascending per block.

  std::vector<std::int32_t> expert_rows;  ///< [groups, num_local]
  std::int64_t num_rows = 0;              ///< Rows in use, without the tails of tiles.
  std::int64_t tokens_in = 0;   ///< Needed tokens whose home is another rank: one transfer each.
  std::int64_t tokens_out = 0;  ///< Sum over own tokens of the other ranks that need them.

  std::int64_t num_tiles() const noexcept { return static_cast<std::int64_t>(tiles.size()); }
  std::int64_t num_groups() const noexcept {
    return static_cast<std::int64_t>(group_tiles.size()) - 1;
  }
  /// Rows of needed token `index`.
  std::span<const NeededRow> rows_of(std::int64_t index) const noexcept {
    return {rows.data() + needed[index].row_begin, rows.data() + needed[index + 1].row_begin};
  }
};

/// Scratch of build_plan, kept between calls to save allocations.
struct PlanScratch {
  std::vector<std::int32_t> source_blocks;  ///< [world + 1] first block index of each source.
  std::vector<std::int32_t> block_rows;     ///< [blocks, num_local] rows of each block and expert.
  std::vector<std::int32_t> block_first;    ///< [blocks, num_local] their first row in the segment.
  std::vector<BlockCounts> block_counts;    ///< [blocks]
  std::vector<std::int32_t> segment_tile;   ///< [groups, num_local] first tile of each segment.
  std::vector<std::int32_t> next_row;       ///< [num_local]
};

/// Derives the plan of one rank. Linear in the ids of all ranks.
void build_plan(const PlanProblem& problem, PlanScratch& scratch, Plan& plan);

/// Row slots (whole tiles) that EP rank `ep_rank` needs for this routing: what a capacity is
/// checked against, by every rank alike.
std::int64_t padded_rows(const PlanProblem& problem, std::int64_t num_experts,
                         std::int64_t ep_rank);

}  // namespace comet
