// SPDX-License-Identifier: Apache-2.0
#include "emulated/emulator.hpp"

#include <fmt/core.h>
#include <setjmp.h>
#include <ucontext.h>

#include <bit>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "base/int_math.hpp"

namespace comet::emulated {

Index thread_index;
Index block_index;
Index block_size;
Index grid_size;

namespace {

constexpr std::size_t kStackBytes = 32 << 10;

// Lanes of a warp that meet: the ones of `mask`.
struct Meeting {
  std::uint32_t mask = 0;
  std::uint32_t arrived = 0;
  std::uint32_t left = 0;  // lanes that have read the values
  std::array<std::uint64_t, kWarp> values{};
};

// A thread of a block, and of the blocks after it: it begins anew when it goes on after its end.
// Contexts only begin it, since each switch of theirs asks the system for the signals' mask.
struct Fiber {
  Meeting* meeting = nullptr;  ///< Whose values it may be reading.
  std::unique_ptr<std::byte[]> stack = std::make_unique<std::byte[]>(kStackBytes);
  jmp_buf place;  ///< Where it goes on, if it has begun.
  bool has_begun = false;
  bool has_waited = false;
};

// Marsaglia's xorshift with 32 bits: a draw for every switch must cost little.
class Draws {
 public:
  /// From 0 to `count` - 1.
  std::uint32_t below(std::size_t count) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return static_cast<std::uint32_t>(std::uint64_t{state_} * count >> 32);
  }
  /// The numbers below `count` in any order.
  std::vector<unsigned> order(unsigned count) {
    std::vector<unsigned> drawn(count);
    std::iota(drawn.begin(), drawn.end(), 0U);
    for (unsigned left = count; left > 1; --left) std::swap(drawn[below(left)], drawn[left - 1]);
    return drawn;
  }

 private:
  std::uint32_t state_ = 1;
};

struct Grid {
  unsigned num_blocks = 0;
  unsigned num_threads = 0;
  bool waits = false;
  const std::function<void()>* body = nullptr;
};

// The block that runs. One at a time, in a thread of the host.
class Block {
 public:
  void run(const Grid& grid, unsigned index) {
    grid_ = grid;
    block_index = {.x = index};
    block_size = {grid.num_threads, 1, 1};
    grid_size = {grid.num_blocks, 1, 1};
    at_barrier_.clear();
    num_ended_ = 0;
    meetings_.resize(ceil_div(grid.num_threads, kWarp));
    while (fibers_.size() < grid.num_threads) fibers_.push_back(std::make_unique<Fiber>());
    ready_ = draws_.order(grid.num_threads);
    for (unsigned thread = 0; thread < grid.num_threads; ++thread) {
      fibers_[thread]->has_waited = false;
    }
    is_depth_first_ = draws_.below(4) != 0;
    if (_setjmp(end_) == 0) go_on();
  }

  void sync() {
    if (num_ended_ > 0) fail_thread("waits at a barrier that another thread has left without");
    at_barrier_.push_back(thread_);
    if (at_barrier_.size() == grid_.num_threads) std::swap(ready_, at_barrier_);
    pause();
  }

  const std::array<std::uint64_t, kWarp>& exchange(std::uint32_t mask, std::uint64_t value) {
    leave_meeting();
    const std::uint32_t lane = thread_ % kWarp;
    const std::uint32_t bit = 1U << lane;
    if ((mask & bit) == 0) fail_thread("calls a warp's function without being of its mask");
    Meeting& meeting = join(mask, bit);
    meeting.arrived |= bit;
    meeting.values[lane] = value;
    if (meeting.arrived == mask) {
      for (std::uint32_t others = mask & ~bit; others != 0; others &= others - 1) {
        ready_.push_back(thread_ - lane + static_cast<unsigned>(std::countr_zero(others)));
      }
    } else {
      pause();
    }
    fibers_[thread_]->meeting = &meeting;
    return meeting.values;
  }

  void let_others_go_on() {
    ready_.insert(ready_.begin(), thread_);
    pause();
  }

  Draws& draws() { return draws_; }
  void wait_for_grids_before() { fibers_[thread_]->has_waited = true; }

 private:
  static void run_thread();

  // As one of the threads that can, or after the block where all have ended.
  [[noreturn]] void go_on() {
    if (ready_.empty()) {
      if (num_ended_ < grid_.num_threads) fail_block("its threads wait for each other");
      _longjmp(end_, 1);
    }
    if (!is_depth_first_) std::swap(ready_[draws_.below(ready_.size())], ready_.back());
    thread_ = ready_.back();
    ready_.pop_back();
    thread_index = {.x = thread_};
    Fiber& fiber = *fibers_[thread_];
    if (fiber.has_begun) _longjmp(fiber.place, 1);
    fiber.has_begun = true;
    ucontext_t context{};
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = kStackBytes;
    makecontext(&context, run_thread, 0);
    setcontext(&context);
    std::abort();  // it does not return
  }

  void pause() {
    if (_setjmp(fibers_[thread_]->place) == 0) go_on();
  }

  // The last one to leave makes it free for others.
  void leave_meeting() {
    Meeting* const meeting = std::exchange(fibers_[thread_]->meeting, nullptr);
    if (meeting == nullptr) return;
    meeting->left |= 1U << thread_ % kWarp;
    if (meeting->left == meeting->mask) meeting->mask = meeting->arrived = meeting->left = 0;
  }

  void end_thread() {
    leave_meeting();
    if (grid_.waits && !fibers_[thread_]->has_waited) {
      fail_thread("ends without waiting for the kernel before");
    }
    if (!at_barrier_.empty()) fail_thread("leaves without a barrier that another thread waits at");
    ++num_ended_;
  }

  // The warp's meeting of that mask that waits for the lane, or an unused one. Meetings stay where
  // they are: lanes that wait hold references.
  Meeting& join(std::uint32_t mask, std::uint32_t bit) {
    std::vector<std::unique_ptr<Meeting>>& own = meetings_[thread_ / kWarp];
    for (const auto& meeting : own) {
      if (meeting->mask == mask && (meeting->arrived & bit) == 0) return *meeting;
    }
    for (const auto& meeting : own) {
      if (meeting->mask != 0) continue;
      meeting->mask = mask;
      return *meeting;
    }
    own.push_back(std::make_unique<Meeting>());
    own.back()->mask = mask;
    return *own.back();
  }

  [[noreturn]] void fail_block(const char* what) const {
    fmt::print(stderr, "[emulator] block {} of {}: {}\n", block_index.x, grid_.num_blocks, what);
    std::abort();
  }

  Grid grid_;
  unsigned thread_ = 0;
  unsigned num_ended_ = 0;
  // The one that was made ready last goes on, so that some are far ahead of others; or any.
  bool is_depth_first_ = false;
  std::vector<unsigned> ready_;
  std::vector<unsigned> at_barrier_;
  std::vector<std::vector<std::unique_ptr<Meeting>>> meetings_;  // [warps]
  std::vector<std::unique_ptr<Fiber>> fibers_;
  jmp_buf end_;
  Draws draws_;
};

Block& block() {
  static Block the_block;
  return the_block;
}

void Block::run_thread() {
  for (;;) {
    (*block().grid_.body)();
    block().end_thread();
    block().pause();
  }
}

}  // namespace

void run_grid(unsigned num_blocks, unsigned num_threads, bool waits,
              const std::function<void()>& body) {
  for (const unsigned index : block().draws().order(num_blocks)) {
    block().run({num_blocks, num_threads, waits, &body}, index);
  }
}

void sync_block() { block().sync(); }

const std::array<std::uint64_t, kWarp>& exchange(std::uint32_t mask, std::uint64_t value) {
  return block().exchange(mask, value);
}

void let_others_go_on() { block().let_others_go_on(); }

void wait_for_grids_before() { block().wait_for_grids_before(); }

void fail_thread(const char* what) {
  fmt::print(stderr, "[emulator] block {}, thread {}: {}\n", block_index.x, thread_index.x, what);
  std::abort();
}

}  // namespace comet::emulated
