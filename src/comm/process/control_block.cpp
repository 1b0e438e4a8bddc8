// SPDX-License-Identifier: Apache-2.0
#include "comm/process/control_block.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
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

// A rank's part: its Member, then, used in that of a host's first rank only, SharedWords and the
// words of progress.
ControlBlock::ControlBlock(ProcessGroup& group, const Hosts& hosts) : hosts_(hosts) {
  constexpr std::size_t kSharedAt =
      ceil_div(sizeof(Member), alignof(SharedWords)) * alignof(SharedWords);
  constexpr std::size_t kWordsAt = ceil_div(kSharedAt + sizeof(SharedWords), std::size_t{8}) * 8;
  const auto size = static_cast<std::size_t>(group.size());
  const std::size_t bytes = kWordsAt + size * sizeof(std::atomic<std::uint64_t>);
  parts_.resize(size);
  SharedMemory& own = parts_[static_cast<std::size_t>(group.rank())];
  own = SharedMemory(bytes);
  if (own.data() != nullptr) {
    auto* const member = new (own.data()) Member();
    member->pid.store(static_cast<std::int32_t>(::getpid()), std::memory_order_relaxed);
    new (own.data() + kSharedAt) SharedWords();
    for (std::size_t word = 0; word < size; ++word) {
      new (own.data() + kWordsAt + word * 8) std::atomic<std::uint64_t>(0);
    }
  }
  map_parts(group, bytes);
  std::byte* const first = parts_[static_cast<std::size_t>(hosts.first_here())].data();
  shared_ = std::launder(reinterpret_cast<SharedWords*>(first + kSharedAt));
  progress_words_ = std::launder(reinterpret_cast<std::atomic<std::uint64_t>*>(first + kWordsAt));
  for (const SharedMemory& part : parts_) {
    if (part.data() != nullptr) {
      members_.push_back(std::launder(reinterpret_cast<Member*>(part.data())));
    } else {
      members_.push_back(mirrors_.emplace_back(std::make_unique<Member>()).get());
    }
  }
}

// Maps what the other ranks of this host have made.
void ControlBlock::map_parts(ProcessGroup& group, std::size_t bytes) {
  const auto rank = static_cast<std::size_t>(group.rank());
  const Address address{static_cast<std::int32_t>(::getpid()), parts_[rank].fd()};
  std::vector<Address> addresses(parts_.size());
  group.all_gather(&address, addresses.data(), sizeof(Address));
  std::int32_t trouble = -1;  // rank whose part is not there
  int reason = 0;
  for (std::size_t other = 0; other < parts_.size() && trouble < 0; ++other) {
    if (!hosts_.is_here(static_cast<int>(other))) continue;
    if (other != rank) {
      parts_[other] = SharedMemory(addresses[other].pid, addresses[other].fd, bytes);
    }
    if (parts_[other].data() != nullptr) continue;
    trouble = static_cast<std::int32_t>(other);
    reason = errno;
  }
  std::vector<std::int32_t> troubles(parts_.size());
  group.all_gather(&trouble, troubles.data(), sizeof(trouble));  // all have mapped all
  for (std::size_t other = 0; other < parts_.size(); ++other) {
    check(troubles[other] < 0, ErrorCode::unsupported,
          "[world] rank {} cannot map rank {}'s memory, process {}{}: ranks of one host must be "
          "processes of one user, with memory left",
          other, troubles[other], addresses[static_cast<std::size_t>(troubles[other])].pid,
          other == rank && reason != 0 ? fmt::format(" ({})", std::strerror(reason)) : "");
  }
  parts_[rank].close_fd();
}

}  // namespace comet
