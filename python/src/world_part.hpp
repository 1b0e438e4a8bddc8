// SPDX-License-Identifier: Apache-2.0
// WorldPart: the ranks of a world that this process has, as Python holds them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "arrays.hpp"
#include "comet/process_world.hpp"
#include "comet/world.hpp"
#include "rank_threads.hpp"

namespace comet::python {

/// All ranks of a local world, or one of a world of processes. Shared by the layers that were made
/// on it. Threads of Python take turns.
class WorldPart {
 public:
  explicit WorldPart(std::vector<std::unique_ptr<World>> worlds);
  ~WorldPart();
  WorldPart(const WorldPart&) = delete;
  WorldPart& operator=(const WorldPart&) = delete;

  /// Ranks are threads of this process.
  static std::shared_ptr<WorldPart> local(int ranks, const std::string& link,
                                          const std::string& backend,
                                          std::chrono::milliseconds timeout);
  /// This process is a rank of what mpirun has started. Collective.
  static std::shared_ptr<WorldPart> mpi(std::chrono::milliseconds timeout);
  /// This process is a rank of what others have started. Collective.
  static std::shared_ptr<WorldPart> processes(const ProcessStart& start, const std::string& backend,
                                              std::chrono::milliseconds timeout);

  /// Whether this process made it. A child that was forked has its memory but none of its threads,
  /// so it must leave it as it is and never destroy what works by them.
  bool is_own() const noexcept;
  /// Throws Error(invalid_argument) unless it is.
  void require_own() const;

  int size() const noexcept { return first().size(); }  ///< Of the world.
  int num_here() const noexcept { return parts_->threads.size(); }
  int first_rank() const noexcept { return first().rank(); }
  std::string kind() const { return std::string(first().kind()); }
  std::string link() const { return to_string(first().link()); }
  std::string backend() const { return std::string(to_string(first().backend())); }
  /// Where arrays must lie; all ranks here are on one GPU, if on any.
  Place place() const noexcept;
  std::int64_t timeout_ms() const noexcept { return first().timeout().count(); }
  /// Number `index` of those here.
  World& world(int index) { return *parts_->worlds[static_cast<std::size_t>(index)]; }

  /// The symmetric memory that all layers of number `index` share, null before the first layer: a
  /// world gives none back, so layers that come and go must not have their own.
  std::shared_ptr<Workspace>& workspace(int index) {
    return parts_->workspaces[static_cast<std::size_t>(index)];
  }

  /// RankThreads::run, with indices of ranks here. Throws Error(invalid_argument) unless is_own().
  void run(const std::function<void(int)>& body) {
    require_own();
    parts_->threads.run(body);
  }
  /// World::recover and World::barrier on all ranks here.
  void recover();
  void barrier();

 private:
  struct Parts {
    explicit Parts(std::vector<std::unique_ptr<World>> made);

    std::vector<std::unique_ptr<World>> worlds;
    std::vector<std::shared_ptr<Workspace>> workspaces;  // [ranks here]
    RankThreads threads;
  };

  World& first() const noexcept { return *parts_->worlds.front(); }

  pid_t maker_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace comet::python
