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

/// Which of the experts, and which slice of I of each: slice `slice` of `num_slices` equal ones.
struct ExpertPart {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t slice = 0;
  std::int64_t num_slices = 1;
};

/// Experts as a description and a seed say, all or a part of them: e experts of i columns of I.
/// A number is the same in whatever part it is drawn. Immutable after construction.
class BenchWeights {
 public:
  BenchWeights(const MoeDesc& desc, std::uint64_t seed);  ///< All of them, whole.
  BenchWeights(const MoeDesc& desc, std::uint64_t seed, const ExpertPart& part);

  const std::byte* gate() const noexcept { return gate_.get(); }  ///< [e, i, H]; null: no gates.
  const std::byte* up() const noexcept { return up_.get(); }      ///< [e, i, H]
  const std::byte* down() const noexcept { return down_.get(); }  ///< [e, H, i]
  /// Of up() and down() each, and of gate() if it is there.
  std::int64_t matrices_bytes() const noexcept;
  /// Whether these are all weights of such a layer: its sizes, gate and dtype count.
  bool are_of(const MoeDesc& desc, std::uint64_t seed) const noexcept;

 private:
  MoeDesc desc_;
  std::uint64_t seed_;
  ExpertPart part_;
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
