// SPDX-License-Identifier: Apache-2.0
// The router: checks a rule, then applies it token by token: score, choose, weigh; capacity last.
#include "comet/router.hpp"

#include <cmath>
#include <span>
#include <vector>

#include "base/check.hpp"
#include "base/checked_math.hpp"
#include "base/int_math.hpp"
#include "routing/capacity.hpp"
#include "routing/limits.hpp"
#include "routing/scoring.hpp"
#include "routing/sparsemixer.hpp"
#include "routing/topk.hpp"

namespace comet {
namespace {

// Keeps a sum of zero weights from dividing by 0; too small to change any other float32 sum.
constexpr float kTinySum = 1e-20F;

void validate_groups(const RouterDesc& desc) {
  using enum ErrorCode;
  check(desc.num_groups >= 1 && desc.num_groups <= desc.num_experts &&
            desc.num_experts % desc.num_groups == 0,
        invalid_argument, "[router] num_groups: {}, allowed are divisors of num_experts = {}",
        desc.num_groups, desc.num_experts);
  check(desc.topk_groups >= 1 && desc.topk_groups <= desc.num_groups, invalid_argument,
        "[router] topk_groups: {}, allowed 1 to num_groups = {}", desc.topk_groups,
        desc.num_groups);
  const std::int64_t eligible = desc.topk_groups * (desc.num_experts / desc.num_groups);
  check(desc.topk <= eligible, invalid_argument,
        "[router] topk: {}, but only {} experts are in the best {} of {} groups", desc.topk,
        eligible, desc.topk_groups, desc.num_groups);
}

void validate_sparsemixer(const RouterDesc& desc) {
  using enum ErrorCode;
  check(desc.topk == 2, invalid_argument, "[router] topk: {}, sparsemixer allows 2", desc.topk);
  check(desc.num_groups == 1, invalid_argument, "[router] num_groups: {}, sparsemixer allows 1",
        desc.num_groups);
  check(std::isfinite(desc.jitter_eps) && desc.jitter_eps >= 0, invalid_argument,
        "[router] jitter_eps: {}, allowed is a finite number of at least 0", desc.jitter_eps);
}

// One rule with the buffers that its tokens share.
class TokenRouter {
 public:
  TokenRouter(const RouterDesc& desc, const float* bias)
      : desc_(desc),
        bias_(bias),
        groups_(desc.num_groups, desc.topk_groups,
                desc.scoring == Scoring::sigmoid ? GroupScore::sum_of_two : GroupScore::best),
        scores_(desc.num_experts),
        choice_scores_(desc.num_experts) {}

  void route(std::int64_t token, std::span<const float> logits, std::span<std::int32_t> ids,
             std::span<float> weights) {
    check_no_nan(logits, token);
    if (desc_.scoring == Scoring::sparsemixer) {
      route_sparsemixer(logits, desc_.jitter_eps, token, {choice_scores_, scores_}, ids.first<2>(),
                        weights.first<2>());
    } else {
      choose(token, logits, ids);
      weigh(ids, weights);
    }
    for (float& weight : weights) weight *= static_cast<float>(desc_.scale);
  }

 private:
  void choose(std::int64_t token, std::span<const float> logits, std::span<std::int32_t> ids) {
    if (desc_.scoring == Scoring::sigmoid) {
      sigmoid_scores(logits, scores_);
    } else {
      softmax_scores(logits, scores_, token);
    }
    choice_scores_ = scores_;
    if (bias_ != nullptr) {
      for (std::int64_t e = 0; e < desc_.num_experts; ++e) choice_scores_[e] += bias_[e];
    }
    groups_.apply(choice_scores_);
    select_topk(choice_scores_, ids);
  }

  void weigh(std::span<const std::int32_t> ids, std::span<float> weights) const {
    float sum = kTinySum;
    for (std::size_t k = 0; k < ids.size(); ++k) {
      weights[k] = scores_[ids[k]];
      sum += weights[k];
    }
    if (!desc_.renormalize) return;
    for (float& weight : weights) weight /= sum;
  }

  const RouterDesc& desc_;
  const float* bias_;  // [num_experts], or null
  GroupLimit groups_;
  std::vector<float> scores_;         // [num_experts]; weights come from these
  std::vector<float> choice_scores_;  // [num_experts]; with bias, groups masked
};

}  // namespace

void validate(const RouterDesc& desc) {
  using enum ErrorCode;
  check(desc.num_experts >= 1 && desc.num_experts <= kMaxRoutedExperts, invalid_argument,
        "[router] num_experts: {}, allowed 1 to {}", desc.num_experts, kMaxRoutedExperts);
  const std::int64_t max_topk = min_of(kMaxRoutedTopk, desc.num_experts);
  check(desc.topk >= 1 && desc.topk <= max_topk, invalid_argument,
        "[router] topk: {}, allowed 1 to {} with {} experts", desc.topk, max_topk,
        desc.num_experts);
  validate_groups(desc);
  if (desc.scoring == Scoring::sparsemixer) validate_sparsemixer(desc);
  // The product is taken in float32, where a double beyond its range would be infinite.
  check(std::isfinite(static_cast<float>(desc.scale)) && desc.scale > 0, invalid_argument,
        "[router] scale: {}, allowed is a finite float32 above 0", desc.scale);
  check(desc.capacity >= 0, invalid_argument, "[router] capacity: {}, at least 0 (no limit)",
        desc.capacity);
}

Routing route(const RouterDesc& desc, const float* logits, std::int64_t tokens, const float* bias) {
  using enum ErrorCode;
  validate(desc);
  check(tokens >= 0, invalid_argument, "[router] tokens: {}, at least 0", tokens);
  check(tokens == 0 || logits != nullptr, invalid_argument,
        "[router] logits: null, allowed only with 0 tokens, not {}", tokens);
  check(bias == nullptr || desc.scoring != Scoring::sparsemixer, invalid_argument,
        "[router] bias: given, sparsemixer allows none");
  for (std::int64_t e = 0; bias != nullptr && e < desc.num_experts; ++e) {
    check(std::isfinite(bias[e]), out_of_range, "[router] bias of expert {}: {}, must be finite", e,
          bias[e]);
  }
  checked_product("the logits", {tokens, desc.num_experts, 8});

  Routing routing;
  routing.tokens = tokens;
  routing.topk = desc.topk;
  routing.ids.resize(tokens * desc.topk);
  routing.weights.resize(tokens * desc.topk);
  const std::span<std::int32_t> ids(routing.ids);
  const std::span<float> weights(routing.weights);
  TokenRouter router(desc, bias);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::span row(logits + t * desc.num_experts, static_cast<std::size_t>(desc.num_experts));
    router.route(t, row, ids.subspan(t * desc.topk, desc.topk),
                 weights.subspan(t * desc.topk, desc.topk));
  }
  if (desc.capacity > 0) apply_capacity(desc.capacity, desc.num_experts, routing);
  return routing;
}

}  // namespace comet
