// SPDX-License-Identifier: Apache-2.0
// Row order, block by block: (group, expert, source rank from its own, token, choice). A block of
// 64 tokens of one source counts its rows, prefix sums over blocks say where each block's rows of
// an expert begin, and each block then places its rows alone: no atomic decides an order, so a
// device may give every block to another thread and get the host's bytes.
#pragma once

#include <cstdint>

#include "layout/token_blocks.hpp"
#include "plan/problem.hpp"

namespace comet {

/// Where a needed token's row lies and which of its choices it serves.
struct NeededRow {
  std::int32_t row;     ///< Row slot: tile * block_m + row in tile.
  std::int32_t choice;  ///< k, to find the routing weight.
};

/// A token that this rank needs, with its rows [row_begin, next token's row_begin) in expert order.
struct NeededToken {
  std::int32_t token;  ///< Index at its home rank.
  std::int32_t row_begin;
};

struct BlockCounts {
  std::int32_t needed = 0;  ///< Tokens with at least one local expert.
  std::int32_t rows = 0;    ///< Token copies.
};

/// Counts block `block` of source rank `source`; `expert_rows` [num_local] must be zero before.
COMET_HOST_DEVICE inline BlockCounts count_block(const PlanProblem& problem, std::int32_t source,
                                                 std::int64_t block, std::int32_t* expert_rows) {
  BlockCounts counts;
  const TokenRange range = block_tokens(problem.tokens[source], block);
  for (std::int32_t token = range.begin; token < range.end; ++token) {
    const std::uint16_t* ids = problem.ids[source] + std::int64_t{token} * problem.topk;
    std::int32_t rows = 0;
    for (std::int32_t k = 0; k < problem.topk; ++k) {
      const std::int32_t expert = local_expert_of(problem, ids[k]);
      if (expert < 0) continue;
      ++expert_rows[expert];
      ++rows;
    }
    counts.needed += rows > 0 ? 1 : 0;
    counts.rows += rows;
  }
  return counts;
}

/// Places the rows of one block. `next_row` [num_local] holds the row slot of the block's first row
/// of each expert and is advanced; `needed` and `rows` point at the block's first entries, and
/// `row_begin` is the index of the latter in the whole list.
COMET_HOST_DEVICE inline void place_block(const PlanProblem& problem, std::int32_t source,
                                          std::int64_t block, std::int32_t* next_row,
                                          NeededToken* needed, NeededRow* rows,
                                          std::int32_t row_begin) {
  const TokenRange range = block_tokens(problem.tokens[source], block);
  std::int32_t num_rows = 0;
  for (std::int32_t token = range.begin; token < range.end; ++token) {
    const std::uint16_t* ids = problem.ids[source] + std::int64_t{token} * problem.topk;
    const std::int32_t first = num_rows;
    std::int32_t experts[kMaxTopk];  // of rows[first..], ascending; equal ones in choice order
    for (std::int32_t k = 0; k < problem.topk; ++k) {
      const std::int32_t expert = local_expert_of(problem, ids[k]);
      if (expert < 0) continue;
      std::int32_t at = num_rows;
      for (; at > first && experts[at - 1 - first] > expert; --at) {
        experts[at - first] = experts[at - 1 - first];
        rows[at] = rows[at - 1];
      }
      experts[at - first] = expert;
      rows[at] = {next_row[expert]++, k};
      ++num_rows;
    }
    if (num_rows > first) *needed++ = {token, row_begin + first};
  }
}

}  // namespace comet
