// SPDX-License-Identifier: Apache-2.0
// Rendezvous: the one way in which ranks of a local world meet and show each other something.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/world.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// What a rank shows at a meeting: which collective it is in and what that one needs.
struct Post {
  enum class Call : std::uint8_t { barrier, allocate, all_gather, set_link };
  Call call = Call::barrier;
  std::size_t bytes = 0;           ///< allocate, all_gather.
  std::byte* memory = nullptr;     ///< allocate; null if the rank could not get it.
  LinkSpec link = {};              ///< set_link.
  std::vector<std::byte> payload;  ///< all_gather: a copy, since a rank that gives up unwinds.
};

/// Meetings are numbered by each rank's own count of them, so a rank that is still on its way out
/// of meeting n doesn't mind that another has entered n + 1. Nobody can enter n + 2 before all have
/// entered n + 1, hence two posts per rank are enough and a meeting needs one wait.
class Rendezvous {
 public:
  explicit Rendezvous(int size);

  /// Shows `post`, waits until all ranks have come to their same meeting and returns the posts in
  /// rank order, valid until this rank's next meeting. Makes visible all that any rank wrote
  /// before. Throws the recorded failure if the world fails meanwhile, Error(timeout) on expiry
  /// (which fails the world), Error(mismatch) if ranks are in different collectives (which all then
  /// throw).
  std::span<const Post> meet(const WorldView& view, Post post);

  /// Forgets all meetings, also half-attended ones. Only while no rank is in one.
  void reset();

 private:
  // Meetings that the rank has entered; written by that rank only.
  struct alignas(64) Arrival {
    std::atomic<std::uint64_t> num_meetings{0};
  };

  bool has_met(std::uint64_t meeting) const noexcept;
  void wait(const WorldView& view, std::uint64_t meeting, Post::Call call);
  std::string missing_ranks(const WorldView& view, std::uint64_t meeting) const;

  int size_;
  std::unique_ptr<Arrival[]> arrivals_;  // [size]
  std::vector<Post> posts_[2];           // [meeting % 2][size]
};

}  // namespace comet
