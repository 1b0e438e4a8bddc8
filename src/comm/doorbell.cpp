// SPDX-License-Identifier: Apache-2.0
// Why no wake-up is lost. All accesses to the two words are sequentially consistent, so they have
// one order S. A sleeper increments sleepers_ (a), then reads rings_ == seen (b), then asks the
// kernel to sleep while rings_ == seen. A ringer increments rings_ (c), then reads sleepers_ (d).
// If c is before b in S, b sees the ring and the sleeper returns. Otherwise a, b, c, d is the
// order, so d sees the sleeper and the ringer calls the kernel. The kernel compares and queues
// under the same lock that a wake takes: either it finds rings_ changed, or the wake finds the
// sleeper queued. There are no stand-alone fences because ThreadSanitizer does not model them.
#include "comm/doorbell.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace comet {
namespace {

// Not FUTEX_PRIVATE_FLAG: the word may lie in memory shared by processes.
long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
           const timespec* timeout) noexcept {
  static_assert(sizeof(word) == sizeof(std::uint32_t));
  return ::syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

}  // namespace

void Doorbell::ring() noexcept {
  rings_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) {
    futex(rings_, FUTEX_WAKE, INT_MAX, nullptr);
  }
}

void Doorbell::sleep(std::uint32_t seen, std::chrono::steady_clock::time_point deadline) noexcept {
  const auto now = std::chrono::steady_clock::now();
  if (deadline <= now) return;
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  if (rings_.load(std::memory_order_seq_cst) == seen) {
    using std::chrono::nanoseconds;
    using std::chrono::seconds;
    const auto left = std::chrono::duration_cast<nanoseconds>(deadline - now);
    const auto whole = std::chrono::duration_cast<seconds>(left);
    timespec timeout{};
    timeout.tv_sec = static_cast<time_t>(whole.count());
    timeout.tv_nsec = static_cast<long>((left - whole).count());
    futex(rings_, FUTEX_WAIT, seen, &timeout);  // Any error is a spurious return.
  }
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
}

}  // namespace comet
