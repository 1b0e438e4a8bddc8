// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/remote_ops.hpp"

#include <algorithm>

#include "layout/panels.hpp"
#include "layout/token_blocks.hpp"

namespace comet {
namespace {

// Calls visit(first, count) for every run of neighbours among the tokens that next(token) yields in
// ascending order, until it says there is none.
template <typename Next, typename Visit>
void for_each_run(const Next& next, const Visit& visit) {
  std::int32_t token = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  while (next(token)) {
    if (count > 0 && token == first + count) {
      ++count;
      continue;
    }
    if (count > 0) visit(first, count);
    first = token;
    count = 1;
  }
  if (count > 0) visit(first, count);
}

bool needs(const std::vector<std::int32_t>& sources, std::int32_t begin, std::int32_t end,
           std::int32_t rank) {
  return std::binary_search(sources.begin() + begin, sources.begin() + end, rank);
}

}  // namespace

void list_sends(const EngineCall& call, const LayerDims& dims, const WorldView& world,
                std::vector<SendPiece>& sends) {
  sends.clear();
  if (world.remote == nullptr) return;
  const Plan& plan = *call.plan;
  const std::int64_t blocks = static_cast<std::int64_t>(plan.block_sources_begin.size()) - 1;
  for (std::int64_t group = 0; group < plan.num_groups(); ++group) {
    for (std::int32_t step = 1; step < dims.world; ++step) {
      // The rank whose source at this step is this one, see source_at_step.
      const std::int32_t destination = (dims.rank + dims.world - step) % dims.world;
      if (!world.is_remote(destination)) continue;
      const std::int64_t end = group_block_begin(blocks, plan.num_groups(), group + 1);
      for (std::int64_t b = group_block_begin(blocks, plan.num_groups(), group); b < end; ++b) {
        if (needs(plan.block_sources, plan.block_sources_begin[b], plan.block_sources_begin[b + 1],
                  destination)) {
          sends.push_back({destination, static_cast<std::int32_t>(b)});
        }
      }
    }
  }
}

std::int64_t planned_bytes(const Plan& plan, const LayerDims& dims, const WorldView& world) {
  const auto tokens = std::count_if(plan.token_sources.begin(), plan.token_sources.end(),
                                    [&](std::int32_t rank) { return world.is_remote(rank); });
  std::int64_t partials = 0;
  for (const BlockTransfer& block : plan.blocks) {
    if (world.is_remote(block.source)) partials += block.needed_end - block.needed_begin;
  }
  return tokens * (dims.row_bytes() + dims.weight_bytes()) + partials * dims.row_bytes();
}

void send_rows(const EngineCall& call, const LayerDims& dims, const WorldView& world,
               const SendPiece& piece) {
  const Plan& plan = *call.plan;
  const std::byte* const own = call.peers[dims.rank];
  const auto put = [&](std::int64_t region, std::int64_t token_bytes, std::int64_t first,
                       std::int64_t count) {
    world.remote->put(piece.destination, own + region + first * token_bytes, count * token_bytes);
  };
  const TokenRange range = block_tokens(call.y.rows, piece.block);
  std::int32_t at = range.begin;
  for_each_run(
      [&](std::int32_t& token) {
        while (at < range.end && !needs(plan.token_sources, plan.token_sources_begin[at],
                                        plan.token_sources_begin[at + 1], piece.destination)) {
          ++at;
        }
        token = at++;
        return token < range.end;
      },
      [&](std::int64_t first, std::int64_t count) {
        put(call.layout.x, dims.row_bytes(), first, count);
        put(call.layout.weights[call.parity()], dims.weight_bytes(), first, count);
      });
  auto* const slots =
      reinterpret_cast<std::uint32_t*>(call.peers[piece.destination] + call.layout.sent);
  world.signal(piece.destination,
               slots + sent_slot(dims.rank, piece.block, num_token_blocks(dims.max_tokens)),
               call.epoch);
}

void send_partials(const EngineCall& call, const LayerDims& dims, const WorldView& world,
                   const BlockTransfer& block, std::int64_t panel) {
  const ColumnRange columns = cut_panels(dims, call.config).columns(panel);
  for (std::int64_t column = columns.begin; column < columns.end; column += dims.panel_n) {
    const std::int64_t width = min_of(dims.panel_n, columns.end - column);
    const std::byte* const strip =
        call.peers[block.source] + call.layout.combine +
        combine_index(dims, column, width, dims.rank, 0) * dims.element_bytes;
    const std::int64_t token_bytes = width * dims.element_bytes;
    std::int32_t i = block.needed_begin;
    for_each_run(
        [&](std::int32_t& token) {
          if (i == block.needed_end) return false;
          token = call.plan->needed[i++].token;
          return true;
        },
        [&](std::int64_t first, std::int64_t count) {
          world.remote->put(block.source, strip + first * token_bytes, count * token_bytes);
        });
  }
}

}  // namespace comet
