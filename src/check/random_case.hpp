// SPDX-License-Identifier: Apache-2.0
// Case: everything that decides one check of the engine, drawn from (seed, index) alone, so that a
// failure on any machine can be run again on any other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comet/desc.hpp"
#include "comet/layer.hpp"
#include "comet/routing.hpp"
#include "comet/weights.hpp"
#include "comet/world.hpp"

namespace comet {

/// How a rank's weights are handed over.
enum class WeightForm : std::uint8_t {
  fused,     ///< w13 and w2, contiguous.
  listed,    ///< One w13 and one w2 per expert.
  separate,  ///< gate, up and down on their own, with padded rows and padded experts.
};

/// Whose tokens go where.
enum class RoutingKind : std::uint8_t {
  uniform,        ///< K distinct experts (then repeats, if K > E).
  skewed,         ///< Distinct, low ids far more often.
  one_expert,     ///< Every token's first choice is one expert, the others are dropped.
  empty_experts,  ///< Only a random part of the experts gets anything.
  some_dropped,   ///< A third of the choices is -1.
  all_dropped,    ///< All choices are -1.
  duplicates,     ///< Half of the choices repeat the token's choice before.
  local,          ///< Experts of the token's own rank, if it has any.
  remote,         ///< Experts of other ranks, if there are any.
};

/// How many tokens the ranks have.
enum class TokenPattern : std::uint8_t {
  any,         ///< 0 to max_tokens each.
  full,        ///< max_tokens each.
  some_empty,  ///< Every other rank has none, by coin.
  one_rank,    ///< A single rank has all.
  none,        ///< No rank has any.
};

/// What keeps workers and ranks out of step.
enum class DelayKind : std::uint8_t {
  none,
  jitter,     ///< One probe in 8 yields or sleeps up to 200 us.
  slow_rank,  ///< One rank sleeps often, the others never.
};

std::string_view to_string(WeightForm form) noexcept;
std::string_view to_string(RoutingKind kind) noexcept;
std::string_view to_string(TokenPattern pattern) noexcept;
std::string_view to_string(DelayKind kind) noexcept;

struct Case {
  std::uint64_t seed = 0;
  std::uint64_t index = 0;
  Backend backend = Backend::cpu;
  MoeDesc desc;
  ParallelDesc parallel;
  WeightForm form = WeightForm::fused;
  GateLayout gate_layout = GateLayout::gate_up;  ///< Of fused and listed weights.
  IdType id_type = IdType::i32;
  DType weight_type = DType::f32;  ///< Of routing weights.
  std::int64_t row_padding = 0;    ///< Elements between the rows of x and y.
  /// [W] block_m and block_n equal, num_workers not.
  std::vector<LayerOptions> options;
  /// The first call by the comet schedule; others are drawn from the seed.
  ForwardOptions forward;
  TokenPattern pattern = TokenPattern::any;
  RoutingKind routing = RoutingKind::uniform;
  LinkSpec link;
  DelayKind delays = DelayKind::none;

  std::int64_t world_size() const noexcept { return parallel.world_size(); }
};

/// The same on every machine. Most cases take a few milliseconds per forward call on cpu; those of
/// cuda are larger, as far as the oracle allows. With `ranks` > 0 the case has so many, else 1 to
/// 8, as drawn.
Case random_case(std::uint64_t seed, std::uint64_t index, Backend backend = Backend::cpu,
                 std::int64_t ranks = 0);

/// A plain case for tests to change: `world_size` EP ranks, E = 6, K = 2, H = 32, I = 48, up to 21
/// tokens per rank, f32 SwiGLU, 2 workers. Call set_parallel after it for another split. On cuda
/// the tile is 64 x 256 and the type bf16.
Case plain_case(std::int64_t world_size, std::uint64_t seed, Backend backend = Backend::cpu);

/// Sets ep x tp, one LayerOptions per rank (copies of the first), and rounds I up to fit tp.
void set_parallel(Case& c, const ParallelDesc& parallel);

/// One line with all that matters, beginning with the seed and the index.
std::string describe(const Case& c);

}  // namespace comet
