// SPDX-License-Identifier: Apache-2.0
// BenchWeights: the experts of a case. Drawing a whole model's takes longer than timing it, so
// cases that have the same ones may share them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comet/desc.hpp"

namespace comet {

struct BenchCase;

/// `count` values in [-scale, scale), the same whatever the number of threads.
std::unique_ptr<std::byte[]> draw_values(std::int64_t count, DType dtype, float scale,
                                         std::uint64_t seed, std::uint64_t stream);

/// Whole experts as a description and a seed say. Immutable after construction.
class BenchWeights {
 public:
  BenchWeights(const MoeDesc& desc, std::uint64_t seed);

  const std::byte* gate() const noexcept { return gate_.get(); }  ///< [E, I, H]; null: no gates.
  const std::byte* up() const noexcept { return up_.get(); }      ///< [E, I, H]
  const std::byte* down() const noexcept { return down_.get(); }  ///< [E, H, I]
  /// Whether these are the weights of such a layer: its sizes, gate and dtype count.
  bool are_of(const MoeDesc& desc, std::uint64_t seed) const noexcept;

 private:
  MoeDesc desc_;
  std::uint64_t seed_;
  std::unique_ptr<std::byte[]> gate_, up_, down_;
};

/// Draws weights and keeps the last ones for the next case that has them too. For one thread.
class BenchWeightsCache {
 public:
  /// To be put into the case. What was kept before is let go first, if it is of another layer.
  std::shared_ptr<const BenchWeights> weights_of(const BenchCase& bench);

 private:
  std::shared_ptr<const BenchWeights> last_;
};

}  // namespace comet
