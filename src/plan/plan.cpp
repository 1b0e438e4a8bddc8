// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.hpp"

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "base/int_math.hpp"

namespace comet {
namespace {

// Calls visit(group, source, step, block) for every block of every source in transfer order.
template <typename Visit>
void for_each_block(const PlanProblem& problem, Visit visit) {
  for (std::int32_t group = 0; group < problem.groups; ++group) {
    for (std::int32_t step = 0; step < problem.world; ++step) {
      const std::int32_t source = source_at_step(problem, step);
      const std::int64_t blocks = num_token_blocks(problem.tokens[source]);
      const std::int64_t end = group_block_begin(blocks, problem.groups, group + 1);
      for (std::int64_t b = group_block_begin(blocks, problem.groups, group); b < end; ++b) {
        visit(group, source, step, static_cast<std::int32_t>(b));
      }
    }
  }
}

void count_blocks(const PlanProblem& problem, PlanScratch& scratch) {
  scratch.source_blocks.assign(problem.world + 1, 0);
  for (std::int32_t s = 0; s < problem.world; ++s) {
    scratch.source_blocks[s + 1] =
        scratch.source_blocks[s] + static_cast<std::int32_t>(num_token_blocks(problem.tokens[s]));
  }
  const std::int64_t blocks = scratch.source_blocks[problem.world];
  scratch.block_rows.assign(blocks * problem.num_local, 0);
  scratch.block_first.resize(blocks * problem.num_local);
  scratch.block_counts.resize(blocks);
  for (std::int32_t s = 0; s < problem.world; ++s) {
    for (std::int32_t i = scratch.source_blocks[s]; i < scratch.source_blocks[s + 1]; ++i) {
      scratch.block_counts[i] =
          count_block(problem, s, i - scratch.source_blocks[s],
                      scratch.block_rows.data() + std::int64_t{i} * problem.num_local);
    }
  }
}

// Segments of (group, expert): where each block's rows begin in theirs, how many rows they have,
// and from that the tiles.
void lay_out_tiles(const PlanProblem& problem, PlanScratch& scratch, Plan& plan) {
  plan.expert_rows.assign(std::int64_t{problem.groups} * problem.num_local, 0);
  for_each_block(problem, [&](std::int32_t group, std::int32_t source, std::int32_t,
                              std::int32_t block) {
    const std::int64_t at = std::int64_t{scratch.source_blocks[source] + block} * problem.num_local;
    std::int32_t* segment_rows = plan.expert_rows.data() + std::int64_t{group} * problem.num_local;
    for (std::int32_t e = 0; e < problem.num_local; ++e) {
      scratch.block_first[at + e] = segment_rows[e];
      segment_rows[e] += scratch.block_rows[at + e];
    }
  });
  plan.tiles.clear();
  plan.group_tiles.assign(1, 0);
  scratch.segment_tile.resize(plan.expert_rows.size());
  plan.num_rows = 0;
  for (std::int32_t group = 0; group < problem.groups; ++group) {
    for (std::int32_t e = 0; e < problem.num_local; ++e) {
      const std::int64_t segment = std::int64_t{group} * problem.num_local + e;
      const std::int32_t rows = plan.expert_rows[segment];
      plan.num_rows += rows;
      scratch.segment_tile[segment] = static_cast<std::int32_t>(plan.tiles.size());
      for (std::int32_t row = 0; row < rows; row += problem.block_m) {
        plan.tiles.push_back({group, e, std::min(problem.block_m, rows - row), 0, 0});
      }
    }
    plan.group_tiles.push_back(static_cast<std::int32_t>(plan.tiles.size()));
  }
  check(plan.num_tiles() * problem.block_m <= INT32_MAX, ErrorCode::capacity,
        "[plan] {} row slots on rank {}: at most 2^31 - 1", plan.num_tiles() * problem.block_m,
        problem.rank);
}

// Rows, transfers and readiness steps, one block after the other; each could run by itself.
void place_blocks(const PlanProblem& problem, PlanScratch& scratch, Plan& plan) {
  BlockCounts total;
  for (const BlockCounts& counts : scratch.block_counts) {
    total.needed += counts.needed;
    total.rows += counts.rows;
  }
  plan.needed.resize(total.needed + 1);
  plan.rows.resize(total.rows);
  plan.blocks.clear();
  plan.block_tiles.clear();
  plan.group_blocks.assign(problem.groups + 1, 0);
  scratch.next_row.resize(problem.num_local);
  plan.tokens_in = 0;
  std::int32_t needed = 0;
  std::int32_t rows = 0;
  for_each_block(
      problem, [&](std::int32_t group, std::int32_t source, std::int32_t step, std::int32_t block) {
        const std::int32_t index = scratch.source_blocks[source] + block;
        const BlockCounts counts = scratch.block_counts[index];
        if (counts.needed == 0) return;
        const auto tile_begin = static_cast<std::int32_t>(plan.block_tiles.size());
        for (std::int32_t e = 0; e < problem.num_local; ++e) {
          const std::int64_t at = std::int64_t{index} * problem.num_local + e;
          const std::int32_t first = scratch.block_first[at];
          const std::int32_t segment_tile =
              scratch.segment_tile[std::int64_t{group} * problem.num_local + e];
          scratch.next_row[e] = segment_tile * problem.block_m + first;
          if (scratch.block_rows[at] == 0) continue;
          const std::int32_t last = first + scratch.block_rows[at] - 1;
          for (std::int32_t t = first / problem.block_m; t <= last / problem.block_m; ++t) {
            Tile& tile = plan.tiles[segment_tile + t];  // blocks come in order: the last one stays
            tile.step = step;
            tile.last_block = static_cast<std::int32_t>(plan.blocks.size());
            plan.block_tiles.push_back(segment_tile + t);
          }
        }
        place_block(problem, source, block, scratch.next_row.data(), plan.needed.data() + needed,
                    plan.rows.data() + rows, rows);
        plan.blocks.push_back({group, source, block, needed, needed + counts.needed, tile_begin,
                               static_cast<std::int32_t>(plan.block_tiles.size())});
        plan.group_blocks[group + 1] = static_cast<std::int32_t>(plan.blocks.size());
        if (source != problem.rank) plan.tokens_in += counts.needed;
        needed += counts.needed;
        rows += counts.rows;
      });
  plan.needed[needed] = {0, rows};
  for (std::int32_t group = 0; group < problem.groups; ++group) {
    plan.group_blocks[group + 1] = std::max(plan.group_blocks[group + 1], plan.group_blocks[group]);
  }
}

void order_walk(Plan& plan) {
  plan.walk.resize(plan.tiles.size());
  std::iota(plan.walk.begin(), plan.walk.end(), 0);
  // In the order in which their last rows arrive. The second GEMM walks a panel in the same order,
  // so that the partials of the first blocks can be sent while the last tiles are computed.
  std::stable_sort(plan.walk.begin(), plan.walk.end(), [&](std::int32_t a, std::int32_t b) {
    return plan.tiles[a].last_block < plan.tiles[b].last_block;
  });
}

void list_home_sources(const PlanProblem& problem, Plan& plan) {
  const std::int32_t tokens = problem.tokens[problem.rank];
  plan.token_sources.clear();
  plan.block_sources.clear();
  plan.token_sources_begin.assign(1, 0);
  plan.block_sources_begin.assign(1, 0);
  plan.tokens_out = 0;
  for (std::int64_t block = 0; block < num_token_blocks(tokens); ++block) {
    const TokenRange range = block_tokens(tokens, block);
    const std::int64_t block_begin = plan.token_sources_begin.back();
    for (std::int32_t token = range.begin; token < range.end; ++token) {
      std::int32_t ep_ranks[kMaxTopk];
      const std::int32_t count = token_ep_ranks(
          problem, problem.ids[problem.rank] + std::int64_t{token} * problem.topk, ep_ranks);
      for (std::int32_t i = 0; i < count; ++i) {
        for (std::int32_t j = 0; j < problem.tp; ++j) {
          const std::int32_t source = ep_ranks[i] * problem.tp + j;
          plan.token_sources.push_back(source);
          plan.tokens_out += source != problem.rank ? 1 : 0;
        }
      }
      plan.token_sources_begin.push_back(static_cast<std::int32_t>(plan.token_sources.size()));
    }
    const auto first = static_cast<std::ptrdiff_t>(plan.block_sources.size());
    plan.block_sources.insert(plan.block_sources.end(), plan.token_sources.begin() + block_begin,
                              plan.token_sources.end());
    std::sort(plan.block_sources.begin() + first, plan.block_sources.end());
    plan.block_sources.erase(
        std::unique(plan.block_sources.begin() + first, plan.block_sources.end()),
        plan.block_sources.end());
    plan.block_sources_begin.push_back(static_cast<std::int32_t>(plan.block_sources.size()));
  }
}

}  // namespace

void build_plan(const PlanProblem& problem, PlanScratch& scratch, Plan& plan) {
  count_blocks(problem, scratch);
  lay_out_tiles(problem, scratch, plan);
  place_blocks(problem, scratch, plan);
  order_walk(plan);
  list_home_sources(problem, plan);
}

std::int64_t padded_rows(const PlanProblem& problem, std::int64_t num_experts,
                         std::int64_t ep_rank) {
  std::vector<std::int64_t> rows(num_experts);
  std::int64_t total = 0;
  for (std::int32_t group = 0; group < problem.groups; ++group) {
    std::fill(rows.begin(), rows.end(), 0);
    for (std::int32_t s = 0; s < problem.world; ++s) {
      const std::int64_t tokens = problem.tokens[s];
      const std::int64_t blocks = num_token_blocks(tokens);
      const std::int64_t begin =
          group_block_begin(blocks, problem.groups, group) * kTokenBlock * problem.topk;
      const std::int64_t end =
          min_of(tokens, group_block_begin(blocks, problem.groups, group + 1) * kTokenBlock);
      for (std::int64_t i = begin; i < end * problem.topk; ++i) {
        const std::uint16_t id = problem.ids[s][i];
        if (id != kDroppedId && problem.ep_rank_of[id] == ep_rank) ++rows[id];
      }
    }
    for (const std::int64_t count : rows) total += round_up(count, problem.block_m);
  }
  return total;
}

}  // namespace comet
