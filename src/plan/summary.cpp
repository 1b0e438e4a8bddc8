// SPDX-License-Identifier: Apache-2.0
// summarize_plan: the plans of all ranks, built by the same code that runs a call, as public data.
#include <algorithm>

#include "base/check.hpp"
#include "comet/plan.hpp"
#include "layout/layer_dims.hpp"
#include "plan/plan.hpp"

namespace comet {
namespace {

// The ids of all ranks as a call would publish them.
struct PublishedIds {
  std::vector<std::int32_t> tokens;               // [world]
  std::vector<std::vector<std::uint16_t>> ids;    // [world] of [tokens, topk]
  std::vector<const std::uint16_t*> id_pointers;  // [world]
};

PublishedIds publish_ids(const PlanQuery& query) {
  PublishedIds published;
  for (std::size_t rank = 0; rank < query.routing.size(); ++rank) {
    const RoutingView& routing = query.routing[rank];
    check(routing.tokens >= 0 && routing.tokens <= INT32_MAX, ErrorCode::invalid_argument,
          "[plan] rank {} has {} tokens, allowed 0 to 2^31 - 1", rank, routing.tokens);
    check(routing.tokens == 0 || routing.ids != nullptr, ErrorCode::invalid_argument,
          "[plan] rank {}: ids are null", rank);
    published.tokens.push_back(static_cast<std::int32_t>(routing.tokens));
    std::vector<std::uint16_t>& ids = published.ids.emplace_back(routing.tokens * query.desc.topk);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::int64_t id = routing.id(static_cast<std::int64_t>(i));
      check(id >= -1 && id < query.desc.num_experts, ErrorCode::out_of_range,
            "[plan] rank {}: topk_ids[{}, {}] = {}, allowed -1 to {}", rank,
            static_cast<std::int64_t>(i) / query.desc.topk,
            static_cast<std::int64_t>(i) % query.desc.topk, id, query.desc.num_experts - 1);
      ids[i] = id < 0 ? kDroppedId : static_cast<std::uint16_t>(id);
    }
  }
  for (const auto& ids : published.ids) published.id_pointers.push_back(ids.data());
  return published;
}

std::vector<ReadinessStep> list_steps(const PlanProblem& problem, const Plan& plan) {
  std::vector<ReadinessStep> steps;
  for (const std::int32_t index : plan.walk) {
    const Tile& tile = plan.tiles[index];
    if (steps.empty() || steps.back().group != tile.group || steps.back().step != tile.step) {
      steps.push_back(
          {.group = tile.group, .step = tile.step, .source = source_at_step(problem, tile.step)});
    }
    ++steps.back().tiles;
    steps.back().rows += tile.rows;
  }
  return steps;
}

RankPlan describe_rank(const PlanProblem& problem, const Plan& plan,
                       const std::vector<std::int32_t>& expert_ids) {
  RankPlan rank;
  rank.tokens = problem.tokens[problem.rank];
  rank.expert_ids.assign(expert_ids.begin(), expert_ids.end());
  rank.rows_per_expert.assign(problem.num_local, 0);
  for (std::size_t i = 0; i < plan.expert_rows.size(); ++i) {
    rank.rows_per_expert[i % problem.num_local] += plan.expert_rows[i];
  }
  rank.rows = plan.num_rows;
  rank.tiles = plan.num_tiles();
  rank.padded_rows = rank.tiles * problem.block_m;
  for (const std::int32_t index : plan.walk) rank.tile_rows.push_back(plan.tiles[index].rows);
  rank.steps = list_steps(problem, plan);
  return rank;
}

void add_traffic(const PlanProblem& problem, const Plan& plan, std::int64_t row_bytes,
                 PlanSummary& summary) {
  for (const BlockTransfer& block : plan.blocks) {
    if (block.source == problem.rank) continue;
    const std::int64_t tokens = block.needed_end - block.needed_begin;
    summary.dispatch_bytes[block.source * summary.world + problem.rank] += tokens * row_bytes;
    summary.row_bytes_without_dedup +=
        (plan.needed[block.needed_end].row_begin - plan.needed[block.needed_begin].row_begin) *
        row_bytes;
  }
}

std::int64_t find_busiest(const PlanSummary& summary) {
  std::int64_t busiest = 0;
  for (std::int64_t i = 0; i < summary.world; ++i) {
    std::int64_t out = 0;
    std::int64_t in = 0;
    for (std::int64_t j = 0; j < summary.world; ++j) {
      out += summary.dispatch_bytes[i * summary.world + j];
      in += summary.dispatch_bytes[j * summary.world + i];
    }
    busiest = std::max({busiest, out, in});
  }
  return busiest;
}

}  // namespace

PlanSummary summarize_plan(const PlanQuery& query) {
  MoeDesc desc = query.desc;
  const std::int64_t world = query.parallel.world_size();
  check(static_cast<std::int64_t>(query.routing.size()) == world, ErrorCode::invalid_argument,
        "[plan] routing of {} ranks, ep x tp is {}", query.routing.size(), world);
  desc.max_tokens = 0;
  for (const RoutingView& routing : query.routing) {
    desc.max_tokens = std::max(desc.max_tokens, routing.tokens);
  }
  validate(desc, query.parallel);
  check(query.groups >= 1 && query.groups <= INT32_MAX, ErrorCode::invalid_argument,
        "[plan] groups: {}, at least 1", query.groups);
  check(query.block_m >= 0 && query.block_m <= INT32_MAX, ErrorCode::invalid_argument,
        "[plan] block_m: {}, at least 0", query.block_m);
  const PublishedIds published = publish_ids(query);
  const std::vector<std::int32_t> ep_rank_of = expert_owners(desc, query.parallel);
  const std::vector<std::int32_t> local_of = local_indices(ep_rank_of, query.parallel.ep);

  PlanSummary summary{.world = world, .groups = query.groups};
  summary.dispatch_bytes.assign(world * world, 0);
  Plan plan;
  PlanScratch scratch;
  for (std::int32_t rank = 0; rank < world; ++rank) {
    LayerDims dims = make_layer_dims(desc, query.parallel, rank);
    dims.block_m = query.block_m;
    choose_tile(dims);
    summary.block_m = dims.block_m;
    const PlanProblem problem{.world = dims.world,
                              .rank = rank,
                              .tp = dims.tp,
                              .topk = dims.topk,
                              .num_local = dims.num_local,
                              .block_m = static_cast<std::int32_t>(dims.block_m),
                              .groups = static_cast<std::int32_t>(query.groups),
                              .ep_rank_of = ep_rank_of.data(),
                              .local_of = local_of.data(),
                              .tokens = published.tokens.data(),
                              .ids = published.id_pointers.data()};
    build_plan(problem, scratch, plan);
    summary.ranks.push_back(
        describe_rank(problem, plan, local_experts(desc, query.parallel, rank / dims.tp)));
    add_traffic(problem, plan, dims.row_bytes(), summary);
  }
  summary.busiest_bytes = find_busiest(summary);
  return summary;
}

}  // namespace comet
