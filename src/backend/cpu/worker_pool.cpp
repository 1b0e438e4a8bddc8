// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/worker_pool.hpp"

#include <sys/prctl.h>

namespace comet {

WorkerPool::WorkerPool(int num_workers) : num_workers_(num_workers) {
  try {
    for (int worker = 1; worker < num_workers; ++worker) {
      threads_.emplace_back([this, worker] { serve(worker); });
    }
  } catch (...) {
    stop();  // a thread that nobody joins ends the program
    throw;
  }
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::run(const std::function<void(int worker)>& body) {
  {
    const std::lock_guard lock(mutex_);
    body_ = &body;
    running_ = num_workers_ - 1;
    ++generation_;
  }
  start_.notify_all();
  body(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
  body_ = nullptr;
}

void WorkerPool::serve(int worker) {
  // Paced transfers end at a time; the default slack would wake a sleeper 50 us late.
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    start_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    const std::function<void(int)>& body = *body_;
    lock.unlock();
    body(worker);
    lock.lock();
    if (--running_ == 0) done_.notify_one();
  }
}

}  // namespace comet
