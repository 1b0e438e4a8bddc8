// SPDX-License-Identifier: Apache-2.0
// Random routings that tests of a call's kernels share: where experts live, and the tokens and ids
// of all ranks, on the host and on the device.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/kernels/plan_kernels.hpp"
#include "cuda/gpu_test.hpp"

namespace comet::cuda {

/// Sizes that a routing is drawn for.
struct RoutingShape {
  std::int32_t ep = 1;
  std::int32_t tp = 1;
  std::int32_t topk = 1;
  std::int32_t num_experts = 1;
  std::int32_t max_tokens = 0;
  std::int32_t block_m = 64;
  std::int32_t groups = 1;
  bool scattered = false;  ///< Experts placed by a table, not in runs.
};

/// Which experts tokens choose: any, all the same, or one of the first two.
enum class Draw { any, one_expert, few_experts };

/// Owns the memory that the problems it returns point to, until the next redraw.
class Routing {
 public:
  Routing(const RoutingShape& shape, std::mt19937& random)
      : shape_(shape), num_local_(shape.ep, 0) {
    const std::int32_t base = shape.num_experts / shape.ep;
    const std::int32_t longer = shape.num_experts % shape.ep;
    for (std::int32_t e = 0; e < shape.num_experts; ++e) {
      const std::int32_t in_longer = longer * (base + 1);
      std::int32_t owner = e < in_longer ? e / (base + 1) : longer + (e - in_longer) / base;
      if (shape.scattered) owner = static_cast<std::int32_t>(random() % unsigned(shape.ep));
      ep_rank_of_.push_back(owner);
      local_of_.push_back(num_local_[owner]++);
    }
    device_ep_rank_of_ = to_device(ep_rank_of_);
    device_local_of_ = to_device(local_of_);
  }

  std::int32_t world() const { return shape_.ep * shape_.tp; }

  /// New tokens and ids; some ranks have none, some choices are dropped. `full`: every rank has
  /// max_tokens and no choice is dropped.
  void redraw(std::mt19937& random, Draw draw, bool full) {
    const auto below = [&](std::int32_t end) {
      return static_cast<std::int32_t>(random() % static_cast<unsigned>(end));
    };
    const std::int32_t one = below(shape_.num_experts);
    const std::int32_t few = std::min(shape_.num_experts, 2);
    tokens_.clear();
    ids_.clear();
    for (std::int32_t r = 0; r < world(); ++r) {
      tokens_.push_back(below(4) == 0 ? 0 : below(shape_.max_tokens + 1));
      if (full) tokens_.back() = shape_.max_tokens;
      auto& list = ids_.emplace_back();
      for (std::int32_t i = 0; i < tokens_.back() * shape_.topk; ++i) {
        std::int32_t id = below(draw == Draw::few_experts ? few : shape_.num_experts);
        if (draw == Draw::one_expert) id = one;
        if (!full && below(9) == 0) id = kDroppedId;
        list.push_back(static_cast<std::uint16_t>(id));
      }
    }
    id_pointers_.clear();
    device_ids_.clear();
    std::vector<const std::uint16_t*> pointers;
    for (const auto& list : ids_) {
      id_pointers_.push_back(list.data());
      device_ids_.push_back(to_device(list));
      pointers.push_back(device_ids_.back().data());
    }
    device_tokens_ = to_device(tokens_);
    device_id_pointers_ = to_device(pointers);
  }

  PlanProblem host_problem(std::int32_t rank) const {
    return {.world = world(),
            .rank = rank,
            .tp = shape_.tp,
            .topk = shape_.topk,
            .num_local = num_local_[rank / shape_.tp],
            .block_m = shape_.block_m,
            .groups = shape_.groups,
            .ep_rank_of = ep_rank_of_.data(),
            .local_of = local_of_.data(),
            .tokens = tokens_.data(),
            .ids = id_pointers_.data()};
  }

  DevicePlanProblem device_problem(std::int32_t rank) const {
    DevicePlanProblem problem{host_problem(rank), shape_.max_tokens};
    problem.problem.ep_rank_of = device_ep_rank_of_.data();
    problem.problem.local_of = device_local_of_.data();
    problem.problem.tokens = device_tokens_.data();
    problem.problem.ids = device_id_pointers_.data();
    return problem;
  }

  PlanLimits limits(std::int32_t rank) const {
    return {.world = world(),
            .tp = shape_.tp,
            .max_tokens = shape_.max_tokens,
            .topk = shape_.topk,
            .num_local = num_local_[rank / shape_.tp],
            .block_m = shape_.block_m,
            .groups = shape_.groups};
  }

  /// The plan that the device should make.
  Plan host_plan(std::int32_t rank) const {
    PlanScratch scratch;
    Plan plan;
    build_plan(host_problem(rank), scratch, plan);
    return plan;
  }

  /// The case in words, for a message.
  std::string describe(std::int32_t rank) const {
    std::string text = fmt::format(
        "rank {}, ep {}, tp {}, topk {}, {} experts{}, at most {} tokens, block_m {}, {} groups, T",
        rank, shape_.ep, shape_.tp, shape_.topk, shape_.num_experts,
        shape_.scattered ? " by a table" : "", shape_.max_tokens, shape_.block_m, shape_.groups);
    for (const std::int32_t tokens : tokens_) text += fmt::format(" {}", tokens);
    return text;
  }

 private:
  RoutingShape shape_;
  std::vector<std::int32_t> num_local_, ep_rank_of_, local_of_, tokens_;
  std::vector<std::vector<std::uint16_t>> ids_;
  std::vector<const std::uint16_t*> id_pointers_;
  DeviceBuffer<std::int32_t> device_ep_rank_of_, device_local_of_, device_tokens_;
  std::vector<DeviceBuffer<std::uint16_t>> device_ids_;
  DeviceBuffer<const std::uint16_t*> device_id_pointers_;
};

/// Whole numbers, each as likely as the others.
class Drawing {
 public:
  explicit Drawing(std::mt19937& random) : random_(random) {}

  /// From `low` to `high`.
  std::int32_t operator()(std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random_() % static_cast<unsigned>(high - low + 1));
  }

 private:
  std::mt19937& random_;
};

/// Small sizes of every kind, on 1 to 8 ranks.
inline RoutingShape draw_shape(std::mt19937& random) {
  Drawing draw(random);
  RoutingShape shape;
  shape.tp = draw(1, 2);
  shape.ep = draw(1, 8 / shape.tp);
  shape.topk = draw(1, 8);
  shape.num_experts = draw(0, 9) == 0 ? draw(100, 300) : draw(1, 20);
  shape.max_tokens = draw(0, 9) == 0 ? draw(0, 5) : draw(1, 400);
  shape.block_m = 64 * draw(1, 2);
  if (draw(0, 9) == 0) shape.block_m = draw(1, 9);  // many tiles of a block
  shape.groups = draw(1, 4);
  shape.scattered = draw(0, 3) == 0;
  if (draw(0, 3) == 0) {  // a plan of one kernel, of several experts for each of its threads
    if (draw(0, 3) == 0) shape.num_experts = draw(1, 1200);
    if (draw(0, 3) == 0) shape.topk = draw(1, 32);
    shape.ep = draw(1, 2 / shape.tp);
    shape.max_tokens = draw(0, 128 / (shape.ep * shape.tp));
    shape.groups = 1;
  }
  return shape;
}

}  // namespace comet::cuda
