// SPDX-License-Identifier: Apache-2.0
#include "comm/process/control_block.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "base/check.hpp"
#include "base/int_math.hpp"

namespace comet {

namespace {

// How other processes find a rank's part.
struct Address {
  std::int32_t pid = 0;
  std::int32_t fd = -1;
};

}  // namespace

// A rank's part: its Member, then, used in rank 0's only, SharedWords and the words of progress.
ControlBlock::ControlBlock(ProcessGroup& group) {
  constexpr std::size_t kSharedAt =
      ceil_div(sizeof(Member), alignof(SharedWords)) * alignof(SharedWords);
  constexpr std::size_t kWordsAt = ceil_div(kSharedAt + sizeof(SharedWords), std::size_t{8}) * 8;
  const auto size = static_cast<std::size_t>(group.size());
  const auto rank = static_cast<std::size_t>(group.rank());
  const std::size_t bytes = kWordsAt + size * sizeof(std::atomic<std::uint64_t>);
  parts_.resize(size);
  parts_[rank] = SharedMemory(bytes);
  const SharedMemory& own = parts_[rank];
  const Address address{static_cast<std::int32_t>(::getpid()), own.fd()};
  if (own.data() != nullptr) {
    auto* const member = new (own.data()) Member();
    member->pid.store(address.pid, std::memory_order_relaxed);
    new (own.data() + kSharedAt) SharedWords();
    for (std::size_t word = 0; word < size; ++word) {
      new (own.data() + kWordsAt + word * 8) std::atomic<std::uint64_t>(0);
    }
  }
  std::vector<Address> addresses(size);
  group.all_gather(&address, addresses.data(), sizeof(Address));
  std::int32_t trouble = -1;  // rank whose part is not there
  int reason = 0;
  for (std::size_t other = 0; other < size && trouble < 0; ++other) {
    if (other != rank) {
      parts_[other] = SharedMemory(addresses[other].pid, addresses[other].fd, bytes);
    }
    if (parts_[other].data() != nullptr) continue;
    trouble = static_cast<std::int32_t>(other);
    reason = errno;
  }
  std::vector<std::int32_t> troubles(size);
  group.all_gather(&trouble, troubles.data(), sizeof(trouble));  // all have mapped all
  for (std::size_t other = 0; other < size; ++other) {
    check(
        troubles[other] < 0, ErrorCode::unsupported,
        "[world] rank {} cannot map rank {}'s memory, process {}{}: ranks must be processes of one "
        "user on one host, with memory left",
        other, troubles[other], addresses[static_cast<std::size_t>(troubles[other])].pid,
        other == rank && reason != 0 ? fmt::format(" ({})", std::strerror(reason)) : "");
  }
  parts_[rank].close_fd();
  std::byte* const first = parts_.front().data();
  shared_ = std::launder(reinterpret_cast<SharedWords*>(first + kSharedAt));
  progress_words_ = std::launder(reinterpret_cast<std::atomic<std::uint64_t>*>(first + kWordsAt));
  for (const SharedMemory& part : parts_) {
    members_.push_back(std::launder(reinterpret_cast<Member*>(part.data())));
  }
}

}  // namespace comet
