// SPDX-License-Identifier: Apache-2.0
#include "comm/launch/launched_group.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/check.hpp"
#include "base/int_math.hpp"

namespace comet {
namespace {

constexpr std::size_t kSlotsAt = ceil_div(sizeof(LaunchArena::Words), std::size_t{64}) * 64;

}  // namespace

LaunchArena::LaunchArena(int size)
    : size_(size), bytes_(kSlotsAt + 2 * static_cast<std::size_t>(size) * kSlotBytes) {
  void* const memory =
      ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  check(memory != MAP_FAILED, ErrorCode::capacity, "[launch] no memory for {} ranks: {}", size,
        std::strerror(errno));
  words_ = new (memory) Words();
}

LaunchArena::~LaunchArena() { ::munmap(words_, bytes_); }

std::byte* LaunchArena::slot(std::uint64_t turn, int rank) const noexcept {
  const std::size_t index =
      (turn % 2) * static_cast<std::size_t>(size_) + static_cast<std::size_t>(rank);
  return reinterpret_cast<std::byte*>(words_) + kSlotsAt + index * kSlotBytes;
}

void LaunchArena::set_gone(int rank) const noexcept {
  std::int32_t none = -1;
  words_->gone.compare_exchange_strong(none, rank);
  words_->doorbell.ring();
}

// A rank is at most one turn ahead of any other, so two parities of slots suffice: it begins turn
// t + 2 after all have come to turn t + 1, hence have read turn t.
void LaunchedGroup::take_turn() {
  ++turns_;
  LaunchArena::Words& words = arena_.words();
  const std::uint64_t wanted = turns_ * static_cast<std::uint64_t>(size());
  words.arrivals.fetch_add(1);  // releases the slot
  words.doorbell.ring();
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  while (true) {
    const std::uint32_t seen = words.doorbell.value();
    if (words.arrivals.load() >= wanted) return;
    const std::int32_t gone = words.gone.load();
    check(gone < 0, ErrorCode::peer, "[launch] rank {} is gone: its process has ended", gone);
    check(std::chrono::steady_clock::now() < deadline, ErrorCode::timeout,
          "[launch] rank {} waited {} ms for the other ranks to start", rank_, timeout_.count());
    words.doorbell.sleep(seen, deadline);
  }
}

void LaunchedGroup::all_gather(const void* in, void* out, std::size_t bytes) {
  std::size_t done = 0;
  do {
    const std::size_t count = std::min(bytes - done, LaunchArena::kSlotBytes);
    const std::uint64_t turn = turns_;
    if (count > 0) {
      std::memcpy(arena_.slot(turn, rank_), static_cast<const std::byte*>(in) + done, count);
    }
    take_turn();
    for (int rank = 0; count > 0 && rank < size(); ++rank) {
      std::memcpy(static_cast<std::byte*>(out) + static_cast<std::size_t>(rank) * bytes + done,
                  arena_.slot(turn, rank), count);
    }
    done += count;
  } while (done < bytes);
}

}  // namespace comet
