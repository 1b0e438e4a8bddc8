// SPDX-License-Identifier: Apache-2.0
// RankMemory: host data where a rank's layers can read it. For tools and tests, whose data is made
// on the host whatever the backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "comet/weights.hpp"
#include "comet/world.hpp"

namespace comet {

/// On cpu all of it is the host's own memory; on cuda copies in device memory, which last until the
/// world goes. Used by the rank's thread.
class RankMemory {
 public:
  explicit RankMemory(World& world);

  bool is_host() const noexcept { return device_ == nullptr; }

  /// Where layers find the `bytes` bytes at `from`: there itself, or at a copy made now.
  const void* place(const void* from, std::int64_t bytes);
  /// Collective, with the same arguments on all ranks: as place, but with one copy for all ranks of
  /// a GPU, if one process has them.
  const void* place_shared(const void* from, std::int64_t bytes);
  /// Zeroed memory that layers may write; on cpu it belongs to this object.
  void* reserve(std::int64_t bytes);
  /// Copies to and from memory of reserve() or place(); waits for the copy.
  void upload(void* to, const void* from, std::int64_t bytes);
  void download(void* to, const void* from, std::int64_t bytes);

  /// Views of the same matrices where layers find them. Every buffer that `weights` points into has
  /// been placed; `num_local` experts are listed, if they are. Lists belong to this object.
  MoeWeights locate(const MoeWeights& weights, std::int64_t num_local);

 private:
  struct Placed {
    const std::byte* from;
    std::int64_t bytes;
    const std::byte* to;
  };
  const void* find(const void* from) const;
  ExpertMatrices locate(const ExpertMatrices& matrices, std::int64_t num_local);

  World& world_;
  class DeviceRank* device_;
  std::vector<Placed> placed_;
  std::vector<std::vector<const void*>> lists_;
  std::vector<std::vector<std::byte>> host_;
};

}  // namespace comet
