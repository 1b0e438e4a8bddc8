// SPDX-License-Identifier: Apache-2.0
// BenchData: the numbers of a case, made once and shared by all ranks of the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
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
  /// One expert, whole.
  struct Expert {
    OracleWeights matrices;
    std::unique_ptr<const BenchWeights> drawn;  ///< Null if the data itself holds it.
  };

  /// Of all ranks or, where each is a process, of `own_rank`: its experts' slices and its tokens
  /// alone, of the others their routing. Numbers do not depend on it.
  explicit BenchData(const BenchCase& bench, std::optional<int> own_rank = {});
  /// The case's description with max_tokens set. Throws Error(invalid_argument) on a case that
  /// cannot be.
  static MoeDesc describe(const BenchCase& bench);

  const MoeDesc& desc() const noexcept { return desc_; }
  /// Of a rank whose weights are here, views into weights().
  MoeWeights weights_of(int rank) const;
  const BenchWeights& weights() const noexcept { return *weights_; }
  /// Drawn now if the data does not hold it.
  Expert expert(std::int64_t index) const;

  std::int64_t tokens_of(int rank) const noexcept { return ranks_[rank].routing.tokens; }
  ConstMatrixView x_of(int rank) const noexcept;  ///< Null where a process lacks them.
  RoutingView routing_of(int rank) const noexcept;

  /// Row slots that G groups take in tiles of `block_m` rows, summed over ranks.
  std::int64_t padded_rows(std::int64_t block_m, std::int64_t groups) const;
  /// Token copies, summed over ranks (with TP, each slice counts).
  std::int64_t rows() const;

 private:
  ExpertPart part_of_rank(int rank) const;

  struct RankData {
    std::unique_ptr<std::byte[]> x;  // [tokens, H]
    Routing routing;
  };

  MoeDesc desc_;
  ParallelDesc parallel_;
  std::uint64_t seed_;
  bool is_part_;  // of one rank
  std::shared_ptr<const BenchWeights> weights_;
  std::vector<RankData> ranks_;
};

}  // namespace comet
