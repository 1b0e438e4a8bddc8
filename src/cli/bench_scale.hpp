// SPDX-License-Identifier: Apache-2.0
// Smaller shapes for `comet bench`: whole models do not fit a laptop's patience.
#pragma once

#include <cstdint>
#include <string_view>

#include "comet/desc.hpp"

namespace comet::cli {

/// What the sizes of a layer are divided by. Experts and top-k stay.
struct Scale {
  enum class Kind : std::uint8_t {
    none,   ///< As the model is.
    demo,   ///< By what suits a CPU; see scale_for.
    factor  ///< H, I and tokens by one number.
  };
  Kind kind = Kind::none;
  std::int64_t factor = 1;
};

/// Parses "none", "demo" or a whole number of at least 1; throws Error(invalid_argument).
Scale parse_scale(std::string_view text);

/// Divisors for one layer.
struct Divisors {
  std::int64_t hidden = 1;
  std::int64_t intermediate = 1;
  std::int64_t tokens = 1;
};

/// The divisors that `scale` means for a layer of these sizes and `tokens` tokens in all.
Divisors scale_for(const Scale& scale, const MoeDesc& desc, std::int64_t tokens);

/// Divides and rounds down to what a layer accepts: H to a multiple of 8, I of 8 * tp.
void apply(const Divisors& divisors, std::int64_t tp, MoeDesc& desc, std::int64_t& tokens);

}  // namespace comet::cli
