// SPDX-License-Identifier: Apache-2.0
// The oracle: a whole MoE layer in double, from whole experts and all tokens, with a bound on the
// error that an honest engine may make. It shares no plan, tile or rank with what it judges.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/desc.hpp"
#include "comet/routing.hpp"
#include "comet/tensor_view.hpp"

namespace comet {

/// Whole experts, dense and row-major, of desc.dtype.
struct OracleWeights {
  const void* gate = nullptr;  ///< [E, I, H]; unused if the experts are not gated.
  const void* up = nullptr;    ///< [E, I, H]
  const void* down = nullptr;  ///< [E, H, I]
};

struct OracleResult {
  std::vector<double> y;      ///< [tokens, H]
  std::vector<double> bound;  ///< [tokens, H] largest |engine - y| that rounding explains.
};

/// y[t] = sum over k of weight[t,k] * expert[id[t,k]](x[t]); id -1 is dropped, an id twice counts
/// twice. `tp` is only for the bound: into how many separately rounded partial sums an expert's
/// output is cut. `threads` share the tokens; the result does not depend on it. Throws
/// Error(out_of_range) for an id that is no expert.
OracleResult run_oracle(const MoeDesc& desc, std::int64_t tp, const OracleWeights& weights,
                        const ConstMatrixView& x, const RoutingView& routing, int threads = 1);

}  // namespace comet
