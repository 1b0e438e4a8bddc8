// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_data.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "plan/plan.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kTokenStream = 2;

}  // namespace

BenchData::BenchData(const BenchCase& bench) : desc_(bench.desc), parallel_(bench.parallel) {
  const std::int64_t world = bench.parallel.world_size();
  check(bench.tokens >= 0 && world >= 1, ErrorCode::invalid_argument,
        "[bench] tokens {} and ranks {}: at least 0 and 1", bench.tokens, world);
  check(desc_.expert_owner.empty(), ErrorCode::invalid_argument,
        "[bench] expert_owner: {} entries, only the default placement is measured",
        desc_.expert_owner.size());
  desc_.max_tokens = ceil_div(bench.tokens, world);
  validate(desc_, parallel_);
  weights_ = bench.weights;
  if (weights_ == nullptr) weights_ = std::make_shared<const BenchWeights>(desc_, bench.seed);
  check_internal(weights_->are_of(desc_, bench.seed), "[bench] weights of another layer");
  for (std::int64_t rank = 0; rank < world; ++rank) {
    const std::int64_t tokens = bench.tokens * (rank + 1) / world - bench.tokens * rank / world;
    const auto of_rank = static_cast<std::uint64_t>(rank);
    ranks_.push_back({draw_values(tokens * desc_.hidden, desc_.dtype, 1.7F, bench.seed,
                                  kTokenStream + 16 * of_rank),
                      make_routing(bench.routing, desc_.num_experts, desc_.topk, tokens,
                                   bench.seed * 1'000'003 + of_rank)});
  }
}

MoeWeights BenchData::weights_of(int rank) const {
  const auto experts = local_experts(desc_, parallel_, rank / parallel_.tp);
  if (experts.empty()) return {};
  const std::int64_t hidden = desc_.hidden, inter = desc_.intermediate;
  const std::int64_t size = hidden * inter;
  const std::int64_t slice_begin = rank % parallel_.tp * (inter / parallel_.tp);
  const std::int64_t first = experts.front() * size;
  const ExpertMatrices rows{
      .expert_stride = size, .row_stride = hidden, .offset = first + slice_begin * hidden};
  MoeWeights weights{
      .gate = rows,
      .up = rows,
      .down = {.expert_stride = size, .row_stride = inter, .offset = first + slice_begin}};
  weights.gate.base = weights_->gate();
  weights.up.base = weights_->up();
  weights.down.base = weights_->down();
  return weights;
}

ConstMatrixView BenchData::x_of(int rank) const noexcept {
  return {ranks_[rank].x.get(), tokens_of(rank), desc_.hidden, desc_.hidden, desc_.dtype};
}

RoutingView BenchData::routing_of(int rank) const noexcept {
  const Routing& routing = ranks_[rank].routing;
  return {routing.ids.data(), routing.weights.data(), routing.tokens};
}

std::int64_t BenchData::padded_rows(std::int64_t block_m, std::int64_t groups) const {
  const auto world = static_cast<std::int32_t>(parallel_.world_size());
  const std::vector<std::int32_t> owners = expert_owners(desc_, parallel_);
  std::vector<std::vector<std::uint16_t>> ids;
  std::vector<const std::uint16_t*> pointers;
  std::vector<std::int32_t> tokens;
  for (const RankData& rank : ranks_) {
    auto& narrow = ids.emplace_back();
    for (const std::int32_t id : rank.routing.ids) {
      narrow.push_back(id < 0 ? kDroppedId : static_cast<std::uint16_t>(id));
    }
    tokens.push_back(static_cast<std::int32_t>(rank.routing.tokens));
  }
  for (const auto& narrow : ids) pointers.push_back(narrow.data());
  const PlanProblem problem{.world = world,
                            .tp = static_cast<std::int32_t>(parallel_.tp),
                            .topk = static_cast<std::int32_t>(desc_.topk),
                            .block_m = static_cast<std::int32_t>(block_m),
                            .groups = static_cast<std::int32_t>(groups),
                            .ep_rank_of = owners.data(),
                            .tokens = tokens.data(),
                            .ids = pointers.data()};
  std::int64_t total = 0;
  for (std::int64_t ep_rank = 0; ep_rank < parallel_.ep; ++ep_rank) {
    total += comet::padded_rows(problem, desc_.num_experts, ep_rank) * parallel_.tp;
  }
  return total;
}

std::int64_t BenchData::rows() const {
  std::int64_t total = 0;
  for (const RankData& rank : ranks_) {
    total += std::count_if(rank.routing.ids.begin(), rank.routing.ids.end(),
                           [](std::int32_t id) { return id >= 0; });
  }
  return total * parallel_.tp;
}

}  // namespace comet
