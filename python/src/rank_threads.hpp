// SPDX-License-Identifier: Apache-2.0
// RankThreads: a thread for each rank of a local world, kept between calls.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace comet::python {

/// Rank 0 is the caller's thread, so that a world of one costs no hand-over.
class RankThreads {
 public:
  explicit RankThreads(int size);
  ~RankThreads();
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;

  int size() const noexcept { return static_cast<int>(errors_.size()); }

  /// Runs `body(rank)` on all ranks at once and waits for all. Of what they threw it rethrows the
  /// first rank's error that is not an echo of another rank's (ErrorCode::peer), else the first.
  /// Callers take turns. Must not be called from a body.
  void run(const std::function<void(int)>& body);

 private:
  void serve(int rank);
  void run_rank(int rank) noexcept;

  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t round_ = 0;  // of work given out
  int num_running_ = 0;
  bool is_over_ = false;
  const std::function<void(int)>* body_ = nullptr;
  std::vector<std::exception_ptr> errors_;  // [size]
  std::vector<std::thread> threads_;        // [size - 1]
};

}  // namespace comet::python
