// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_data.hpp"

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "plan/plan.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kTokenStream = 2;

}  // namespace

MoeDesc BenchData::describe(const BenchCase& bench) {
  MoeDesc desc = bench.desc;
  const std::int64_t world = bench.parallel.world_size();
  check(bench.tokens >= 0 && world >= 1, ErrorCode::invalid_argument,
        "[bench] tokens {} and ranks {}: at least 0 and 1", bench.tokens, world);
  check(desc.expert_owner.empty(), ErrorCode::invalid_argument,
        "[bench] expert_owner: {} entries, only the default placement is measured",
        desc.expert_owner.size());
  desc.max_tokens = ceil_div(bench.tokens, world);
  validate(desc, bench.parallel);
  return desc;
}

BenchData::BenchData(const BenchCase& bench, std::optional<int> own_rank)
    : desc_(describe(bench)),
      parallel_(bench.parallel),
      seed_(bench.seed),
      is_part_(own_rank.has_value()),
      weights_(bench.weights) {
  if (is_part_) {
    check_internal(weights_ == nullptr, "[bench] whole weights for one rank");
    weights_ = std::make_shared<const BenchWeights>(desc_, seed_, part_of_rank(*own_rank));
  } else {
    if (weights_ == nullptr) weights_ = std::make_shared<const BenchWeights>(desc_, seed_);
    check_internal(weights_->are_of(desc_, seed_), "[bench] weights of another layer");
  }
  const std::int64_t world = parallel_.world_size();
  for (std::int64_t rank = 0; rank < world; ++rank) {
    const std::int64_t tokens = bench.tokens * (rank + 1) / world - bench.tokens * rank / world;
    const auto of_rank = static_cast<std::uint64_t>(rank);
    const bool is_here = !is_part_ || rank == *own_rank;
    ranks_.push_back({is_here ? draw_values(tokens * desc_.hidden, desc_.dtype, 1.7F, bench.seed,
                                            kTokenStream + 16 * of_rank)
                              : nullptr,
                      make_routing(bench.routing, desc_.num_experts, desc_.topk, tokens,
                                   bench.seed * 1'000'003 + of_rank)});
  }
}

MoeWeights BenchData::weights_of(int rank) const {
  const ExpertPart part = part_of_rank(rank);
  if (part.count == 0) return {};
  const std::int64_t hidden = desc_.hidden;
  const std::int64_t width = desc_.intermediate / parallel_.tp;
  const std::int64_t inter = is_part_ ? width : desc_.intermediate;  // of an expert here
  const std::int64_t size = hidden * inter;
  const std::int64_t slice_begin = is_part_ ? 0 : part.slice * width;
  const std::int64_t first = is_part_ ? 0 : part.first * size;
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

ExpertPart BenchData::part_of_rank(int rank) const {
  const auto experts = local_experts(desc_, parallel_, rank / parallel_.tp);
  return {.first = experts.empty() ? 0 : experts.front(),
          .count = static_cast<std::int64_t>(experts.size()),
          .slice = rank % parallel_.tp,
          .num_slices = parallel_.tp};
}

BenchData::Expert BenchData::expert(std::int64_t index) const {
  const auto matrices_of = [](const BenchWeights& weights) {
    return OracleWeights{weights.gate(), weights.up(), weights.down()};
  };
  if (!is_part_) return {expert_of(desc_, matrices_of(*weights_), index), nullptr};
  auto drawn =
      std::make_unique<const BenchWeights>(desc_, seed_, ExpertPart{.first = index, .count = 1});
  const OracleWeights matrices = matrices_of(*drawn);
  return {matrices, std::move(drawn)};
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
