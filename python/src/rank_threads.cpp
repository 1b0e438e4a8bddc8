// SPDX-License-Identifier: Apache-2.0
#include "rank_threads.hpp"

#include "comet/error.hpp"

namespace comet::python {
namespace {

bool is_echo(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code() == ErrorCode::peer;
  } catch (...) {
    return false;
  }
}

}  // namespace

RankThreads::RankThreads(int size) : errors_(static_cast<std::size_t>(size)) {
  try {
    for (int rank = 1; rank < size; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
  } catch (...) {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    throw;
  }
}

RankThreads::~RankThreads() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void RankThreads::run(const std::function<void(int)>& body) {
  const std::lock_guard turn(turn_);
  {
    const std::lock_guard lock(mutex_);
    body_ = &body;
    num_running_ = size() - 1;
    ++round_;
  }
  if (size() > 1) changed_.notify_all();
  run_rank(0);
  if (size() > 1) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return num_running_ == 0; });
  }
  std::exception_ptr first;
  for (std::exception_ptr& error : errors_) {
    const std::exception_ptr thrown = std::exchange(error, nullptr);
    if (thrown && (!first || (is_echo(first) && !is_echo(thrown)))) first = thrown;
  }
  if (first) std::rethrow_exception(first);
}

void RankThreads::serve(int rank) {
  std::uint64_t done = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_over_ || round_ != done; });
    if (is_over_) return;
    done = round_;
    lock.unlock();
    run_rank(rank);
    lock.lock();
    if (--num_running_ == 0) changed_.notify_all();
  }
}

void RankThreads::run_rank(int rank) noexcept {
  try {
    (*body_)(rank);
  } catch (...) {
    errors_[static_cast<std::size_t>(rank)] = std::current_exception();
  }
}

}  // namespace comet::python
