// SPDX-License-Identifier: Apache-2.0
// What a layer computes (MoeDesc) and how its experts are spread over ranks (ParallelDesc).
// Both must be equal on all ranks of a world.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "comet/dtype.hpp"

namespace comet {

/// Nonlinearity f of an expert. Gated experts compute f(gate) * up, the others f(up).
/// SwiGLU is {silu, gated}. GELU is the exact one, by erf.
enum class Activation : std::uint8_t { silu, gelu, relu };

/// Where a token's routing weight multiplies: on the expert's output (most frameworks), or on the
/// activation before the second GEMM (Megatron). Equal in exact arithmetic, not bit for bit.
enum class WeightPosition : std::uint8_t { after_down, before_down };

/// Names such as "silu" and "after_down".
std::string_view to_string(Activation activation) noexcept;
/// @copydoc to_string(Activation)
std::string_view to_string(WeightPosition position) noexcept;
/// Parse the names that to_string gives; throw Error(invalid_argument) on anything else.
Activation parse_activation(std::string_view name);
/// @copydoc parse_activation
WeightPosition parse_weight_position(std::string_view name);

/// One MoE layer: y[t] = sum over k of weight[t,k] * expert[id[t,k]](x[t]).
struct MoeDesc {
  std::int64_t num_experts = 0;   ///< E >= 1, at most 65,534 (ids travel as 16 bits).
  std::int64_t topk = 0;          ///< K, choices per token, 1 to 32.
  std::int64_t hidden = 0;        ///< H, token length; a multiple of 8.
  std::int64_t intermediate = 0;  ///< I, inner size of a whole expert; a multiple of 8 * TP.
  std::int64_t max_tokens = 0;    ///< Largest number of tokens per rank and call, >= 0.
  DType dtype = DType::f32;       ///< Of x, y and the weights.
  Activation activation = Activation::silu;  ///< The nonlinearity f.
  bool gated = true;                         ///< f(gate) * up instead of f(up).
  /// Where routing weights multiply.
  WeightPosition weight_position = WeightPosition::after_down;
  /// EP rank that owns each expert, [num_experts] entries in [0, ep), or empty for the default:
  /// contiguous blocks, the first E mod EP EP-ranks holding one expert more. An EP rank may own
  /// none. A rank's local experts are numbered by ascending global id.
  std::vector<std::int32_t> expert_owner = {};
};

/// World size W = ep * tp; rank r has ep_rank r / tp and tp_rank r % tp. A rank holds the experts
/// of its EP rank, cut along the intermediate axis into tp slices of I / tp.
struct ParallelDesc {
  std::int64_t ep = 1;  ///< Parts that the list of experts is cut into.
  std::int64_t tp = 1;  ///< Slices that each expert is cut into.

  /// W, the ranks that the layer needs.
  constexpr std::int64_t world_size() const noexcept { return ep * tp; }
};

/// Throws Error(invalid_argument) with the value and what is allowed, if the two do not fit each
/// other or the limits above, or if a size computed from them would overflow 63 bits.
void validate(const MoeDesc& desc, const ParallelDesc& parallel);

/// EP rank of every expert, [num_experts]: `desc.expert_owner` or the default placement.
std::vector<std::int32_t> expert_owners(const MoeDesc& desc, const ParallelDesc& parallel);

/// Global ids of the experts of one EP rank, ascending: index = local expert index.
std::vector<std::int32_t> local_experts(const MoeDesc& desc, const ParallelDesc& parallel,
                                        std::int64_t ep_rank);

}  // namespace comet
