// SPDX-License-Identifier: Apache-2.0
// BenchInputs: a case's numbers where a rank's layer reads them. On GPUs each rank has several
// copies of what a call reads and writes, so that no call finds them in L2; weights are there once
// per GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "comet/weights.hpp"
#include "comet/world.hpp"
#include "layer/rank_memory.hpp"
#include "measure/bench_data.hpp"

namespace comet {

/// Copies whose bytes together exceed twice the L2, 1 to 16. 1 where there is no GPU (L2 of 0).
int num_input_copies(std::int64_t copy_bytes, std::int64_t l2_bytes);

class BenchInputs {
 public:
  /// What one call reads and writes.
  struct Copy {
    ConstMatrixView x;
    RoutingView routing;
    MatrixView y;
  };

  /// Collective. `data` and `world` must outlive it.
  BenchInputs(const BenchData& data, World& world, std::int64_t l2_bytes);

  const MoeWeights& weights() const noexcept { return weights_; }
  std::size_t num_copies() const noexcept { return copies_.size(); }
  const Copy& copy(std::size_t index) const { return copies_[index]; }

  /// y of a copy in host memory, until the next call of this.
  std::span<const std::byte> read_y(std::size_t index);

 private:
  Copy make_copy(const BenchData& data, int rank);

  RankMemory memory_;
  MoeWeights weights_;
  std::vector<Copy> copies_;
  std::vector<std::byte> host_y_;  // empty where y is host memory itself
};

}  // namespace comet
