// SPDX-License-Identifier: Apache-2.0
// BenchData: the numbers of a case, made once and shared by all ranks of the in-process world.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "check/oracle.hpp"
#include "comet/router.hpp"
#include "comet/weights.hpp"
#include "measure/bench_case.hpp"
#include "measure/bench_weights.hpp"

namespace comet {

/// Immutable after construction.
class BenchData {
 public:
  explicit BenchData(const BenchCase& bench);

  /// The case's description with max_tokens set.
  const MoeDesc& desc() const noexcept { return desc_; }
  /// Views into the whole experts: a benchmark needs no second copy of them.
  MoeWeights weights_of(int rank) const;
  OracleWeights whole_weights() const noexcept {
    return {weights_->gate(), weights_->up(), weights_->down()};
  }

  std::int64_t tokens_of(int rank) const noexcept { return ranks_[rank].routing.tokens; }
  ConstMatrixView x_of(int rank) const noexcept;
  RoutingView routing_of(int rank) const noexcept;

  /// Row slots that G groups take in tiles of `block_m` rows, summed over ranks.
  std::int64_t padded_rows(std::int64_t block_m, std::int64_t groups) const;
  /// Token copies, summed over ranks (with TP, each slice counts).
  std::int64_t rows() const;

 private:
  struct RankData {
    std::unique_ptr<std::byte[]> x;  // [tokens, H]
    Routing routing;
  };

  MoeDesc desc_;
  ParallelDesc parallel_;
  std::shared_ptr<const BenchWeights> weights_;
  std::vector<RankData> ranks_;
};

}  // namespace comet
