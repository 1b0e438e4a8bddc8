// SPDX-License-Identifier: Apache-2.0
// The oracle: a whole MoE layer in double, from whole experts and all tokens, with a bound on the
// error that an honest engine may make. It shares no plan, tile or rank with what it judges.
#pragma once

#include <cstdint>
#include <memory>
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

/// What y does not depend on: how the engine that is judged rounds, and who computes.
struct OracleOptions {
  std::int64_t tp = 1;       ///< Slices of an expert, each with partial sums of its own.
  bool rounds_rows = false;  ///< Rounds each choice's product, per slice, to the dtype before sums.
  int threads = 1;           ///< That share the rows of the weights.
};

/// The oracle's sums, an expert at a time: for who does not have all of them in memory at once.
class OracleSum {
 public:
  /// `x` and `routing` are read here alone. Throws as run_oracle does.
  OracleSum(const MoeDesc& desc, const ConstMatrixView& x, const RoutingView& routing,
            const OracleOptions& options = {});
  ~OracleSum();
  OracleSum(const OracleSum&) = delete;
  OracleSum& operator=(const OracleSum&) = delete;

  /// Whether a token chose the expert, which was not added yet.
  bool needs(std::int64_t expert) const;
  /// Adds the expert's part to its tokens. `weights` are its matrices: [I, H] twice, and [H, I].
  void add(std::int64_t expert, const OracleWeights& weights);
  /// Once all that are needed were added.
  OracleResult take();

 private:
  class Sums;
  std::unique_ptr<Sums> sums_;
};

/// The matrices of one of whole experts.
OracleWeights expert_of(const MoeDesc& desc, const OracleWeights& weights, std::int64_t expert);

/// y[t] = sum over k of weight[t,k] * expert[id[t,k]](x[t]); id -1 is dropped, an id twice counts
/// twice. Throws Error(out_of_range) for an id that is no expert. The bound supposes that no number
/// of the engine leaves the range of the dtype, which for f16 ends at 65504.
OracleResult run_oracle(const MoeDesc& desc, const OracleWeights& weights, const ConstMatrixView& x,
                        const RoutingView& routing, const OracleOptions& options = {});

}  // namespace comet
