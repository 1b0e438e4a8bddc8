// SPDX-License-Identifier: Apache-2.0
// Routers: from logits to expert ids and weights, by the rules of the models that Comet reads.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace comet {

/// How logits become scores.
enum class Scoring : std::uint8_t {
  softmax,      ///< Over all experts, in float32 (Mixtral, Qwen).
  sigmoid,      ///< Per expert (DeepSeek-V3).
  sparsemixer,  ///< Phi-3.5-MoE's inference rule: masked softmax, one choice after the other; K
                ///< = 2.
};

/// Lower-case name, for example "softmax".
std::string_view to_string(Scoring scoring) noexcept;
/// Parses what to_string gives; throws Error(invalid_argument) on anything else.
Scoring parse_scoring(std::string_view name);

/// A router's rule.
struct RouterDesc {
  std::int64_t num_experts = 0;        ///< E.
  std::int64_t topk = 0;               ///< K, choices per token.
  Scoring scoring = Scoring::softmax;  ///< How logits become scores.
  /// Divide the chosen weights by their sum; sparsemixer has its own rule and ignores it.
  bool renormalize = true;
  double scale = 1.0;  ///< Multiplies the final weights (DeepSeek routed_scaling_factor).
  /// Group-limited top-k: experts in num_groups equal groups, only the best topk_groups stay. A
  /// group's score is its best expert's (softmax) or the sum of its best two (sigmoid).
  std::int64_t num_groups = 1;
  std::int64_t topk_groups = 1;  ///< See num_groups.
  double jitter_eps =
      0.01;  ///< sparsemixer's threshold: experts farther below the best are masked.
  /// Tokens that one expert may take from this call's T tokens; 0 is no limit. Choices beyond it,
  /// in token order then choice order, become id -1 with weight 0 and are counted.
  std::int64_t capacity = 0;
};

/// Router output for T tokens.
struct Routing {
  std::int64_t tokens = 0;        ///< T.
  std::int64_t topk = 0;          ///< K.
  std::vector<std::int32_t> ids;  ///< [tokens, topk], best first; -1 = dropped.
  std::vector<float> weights;     ///< [tokens, topk]
  std::int64_t dropped = 0;       ///< Choices dropped by capacity.
};

/// Throws Error(invalid_argument) with the value and what is allowed.
void validate(const RouterDesc& desc);

/// Routes `tokens` rows of logits [tokens, num_experts], row-major, dense. `bias` [num_experts] is
/// added for the choice only, not to the weights (DeepSeek's correction bias); null is none. Ties
/// go to the lower expert id. Throws
/// Error(out_of_range) with token and expert for NaN logits, and for rows or biases without a
/// finite choice.
Routing route(const RouterDesc& desc, const float* logits, std::int64_t tokens,
              const float* bias = nullptr);

/// Made-up routings for tests and benchmarks.
struct SyntheticRouting {
  /// How the experts are drawn.
  enum class Kind : std::uint8_t {
    uniform,  ///< K distinct experts, all equally likely.
    spread,   ///< Expert loads with a given standard deviation of their shares (the paper's axis).
    zipf,     ///< Expert e with probability proportional to 1 / (e + 1)^parameter.
    hot,      ///< Every token takes expert 0, the other choices are uniform.
    empty,    ///< Uniform over the first half of the experts; the others get nothing.
  };
  Kind kind = Kind::uniform;  ///< How the experts are drawn.
  double parameter = 0;       ///< spread: the standard deviation; zipf: the exponent.
};

/// Parses "uniform", "std:<x>", "zipf:<s>", "hot" or "empty"; throws Error(invalid_argument).
SyntheticRouting parse_synthetic_routing(std::string_view text);

/// `tokens` tokens with K distinct choices each (as many distinct as experts exist, then repeats)
/// and positive weights that sum to 1. The same arguments give the same routing on every machine.
Routing make_routing(const SyntheticRouting& kind, std::int64_t num_experts, std::int64_t topk,
                     std::int64_t tokens, std::uint64_t seed);

}  // namespace comet
