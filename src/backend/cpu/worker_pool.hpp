// SPDX-License-Identifier: Apache-2.0
// WorkerPool: the threads of one rank, kept between calls.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace comet {

/// The thread that calls run is worker 0; num_workers - 1 threads are the others.
class WorkerPool {
 public:
  explicit WorkerPool(int num_workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int num_workers() const noexcept { return num_workers_; }

  /// Runs body(worker) once on each worker and returns when all have returned. `body` must not
  /// throw. Not reentrant.
  void run(const std::function<void(int worker)>& body);

 private:
  void serve(int worker);
  void stop();

  int num_workers_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  const std::function<void(int)>* body_ = nullptr;
  std::uint64_t generation_ = 0;
  int running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace comet
