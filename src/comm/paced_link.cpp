// SPDX-License-Identifier: Apache-2.0
// The clocks order nothing between threads, they only count time: relaxed accesses are enough.
#include "comm/paced_link.hpp"

#include <algorithm>
#include <cmath>

namespace comet {
namespace {

std::int64_t to_ns(PacedLink::Clock::time_point time) noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

// Moves a clock to max(clock, now) + duration and returns its new value.
std::int64_t advance(std::atomic<std::int64_t>& clock_ns, std::int64_t now_ns,
                     std::int64_t duration_ns) noexcept {
  std::int64_t before_ns = clock_ns.load(std::memory_order_relaxed);
  std::int64_t after_ns = 0;
  do {
    after_ns = std::max(before_ns, now_ns) + duration_ns;
  } while (!clock_ns.compare_exchange_weak(before_ns, after_ns, std::memory_order_relaxed));
  return after_ns;
}

}  // namespace

PacedLink::PacedLink(int num_ranks)
    : num_ranks_(num_ranks),
      clocks_(std::make_unique<RankClock[]>(2 * static_cast<std::size_t>(num_ranks))) {}

void PacedLink::set_rate(double gigabytes_per_second) noexcept {
  const bool paced = gigabytes_per_second > 0 && std::isfinite(gigabytes_per_second);
  // 1e9 bytes per second is one byte per nanosecond.
  nanoseconds_per_byte_.store(paced ? 1.0 / gigabytes_per_second : 0.0, std::memory_order_relaxed);
  // Time booked at the old rate would delay the first transfers at the new one.
  for (int i = 0; i < 2 * num_ranks_; ++i) {
    clocks_[i].busy_until_ns.store(0, std::memory_order_relaxed);
  }
}

PacedLink::Clock::duration PacedLink::duration(std::int64_t bytes) const noexcept {
  const double nanoseconds_per_byte = nanoseconds_per_byte_.load(std::memory_order_relaxed);
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::nanoseconds(std::llround(static_cast<double>(bytes) * nanoseconds_per_byte)));
}

PacedLink::Clock::time_point PacedLink::book(int source, int destination, std::int64_t bytes,
                                             Clock::time_point now) noexcept {
  const double nanoseconds_per_byte = nanoseconds_per_byte_.load(std::memory_order_relaxed);
  if (nanoseconds_per_byte <= 0 || source == destination) return now;
  const std::int64_t now_ns = to_ns(now);
  const std::int64_t duration_ns = std::llround(static_cast<double>(bytes) * nanoseconds_per_byte);
  const std::int64_t sent_ns = advance(clocks_[source].busy_until_ns, now_ns, duration_ns);
  const std::int64_t received_ns =
      advance(clocks_[num_ranks_ + destination].busy_until_ns, now_ns, duration_ns);
  return Clock::time_point(std::chrono::duration_cast<Clock::duration>(
      std::chrono::nanoseconds(std::max(sent_ns, received_ns))));
}

}  // namespace comet
