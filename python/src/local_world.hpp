// SPDX-License-Identifier: Apache-2.0
// LocalWorld: all ranks of a world of this process, as Python holds them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "comet/world.hpp"
#include "rank_threads.hpp"

namespace comet::python {

/// Shared by the layers that were made on it. Threads of Python take turns.
class LocalWorld {
 public:
  LocalWorld(int ranks, const std::string& link, std::chrono::milliseconds timeout);

  int size() const noexcept { return threads_.size(); }
  World& rank(int rank) { return *worlds_[static_cast<std::size_t>(rank)]; }
  std::string link() const { return to_string(worlds_.front()->link()); }
  std::int64_t timeout_ms() const noexcept { return worlds_.front()->timeout().count(); }

  /// RankThreads::run.
  void run(const std::function<void(int)>& body) { threads_.run(body); }
  /// World::recover on all ranks.
  void recover() {
    run([this](int r) { rank(r).recover(); });
  }

 private:
  std::vector<std::unique_ptr<World>> worlds_;  // [size]
  RankThreads threads_;
};

}  // namespace comet::python
