// SPDX-License-Identifier: Apache-2.0
#include "comm/process/process_world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/env.hpp"
#include "base/process_stat.hpp"
#include "comm/link_spec.hpp"
#include "comm/net/connect_ranks.hpp"
#include "comm/process/introduction.hpp"

namespace comet {
namespace {

// How long a rank that leaves a failed world lets others take what it said last.
constexpr std::chrono::milliseconds kLastWords(500);

}  // namespace

ProcessWorld::ProcessWorld(std::unique_ptr<ProcessGroup> group, std::chrono::milliseconds timeout,
                           Backend backend)
    : num_exceptions_(std::uncaught_exceptions()),
      group_(std::move(group)),
      pids_(introduce(*group_, backend)),
      timeout_(timeout),
      hosts_(*group_),
      control_(*group_, hosts_),
      link_(group_->size()),
      progress_(group_->size(), control_.progress_words(),
                [this](int other) {
                  return control_.is_here(other) &&
                         is_process_stopped(pids_[static_cast<std::size_t>(other)]);
                }),
      network_(hosts_.num() == 1
                   ? nullptr
                   : std::make_unique<Network>(group_->rank(),
                                               connect_ranks(*group_, hosts_, timeout), timeout)),
      remote_(network_ == nullptr ? nullptr
                                  : std::make_unique<RemoteControl>(control_, view_, *network_)),
      rendezvous_(control_, remote_.get()),
      recovery_(control_, remote_.get()) {
  for (int rank = 0; rank < group_->size(); ++rank) {
    doorbells_.push_back(&control_.member(rank).doorbell);
    control_.member(rank).pid.store(pids_[static_cast<std::size_t>(rank)],
                                    std::memory_order_relaxed);
  }
  view_.rank = group_->rank();
  view_.size = group_->size();
  view_.doorbells = doorbells_.data();
  view_.link = &link_;
  view_.failures = &failures_;
  view_.progress = &progress_;
  view_.timeout = timeout_;
  view_.remote = network_.get();
  view_.are_processes = true;
  view_.host_word = &control_.shared().word;
  if (backend == Backend::cuda) make_device();
  watch_ = std::make_unique<FailureWatch>(control_, view_, remote_.get());
  if (network_ == nullptr) return;
  remote_->set_watch(*watch_);
  network_->start(*remote_);
}

void ProcessWorld::make_device() {
  ProcessDeviceOptions options{.rank = group_->rank(),
                               .size = group_->size(),
                               .ranks_on_host = 0,
                               .timeout = timeout_,
                               .force_puts = env().force_puts,
                               .progress_words = control_.progress_words()};
  for (int rank = 0; rank < options.size; ++rank) {
    if (!hosts_.is_here(rank)) continue;
    if (rank < options.rank) ++options.index_on_host;
    ++options.ranks_on_host;
  }
  options.all_gather = [this](const void* in, void* out, std::size_t bytes) {
    group_->all_gather(in, out, bytes);
  };
  device_ = make_process_device(options);
  failures_.mirror(device_->failed_word(), kHostFailed);
  view_.device = &device_->rank();
  view_.remote = nullptr;  // kernels put
}

std::string_view ProcessWorld::kind() const noexcept {
  if (!device_) return group_->kind();
  return env().force_puts ? "nvshmem-puts" : "nvshmem";
}

int ProcessWorld::device() const noexcept { return device_ ? device_->rank().device() : -1; }

void* ProcessWorld::stream() const noexcept { return device_ ? device_->rank().stream() : nullptr; }

void ProcessWorld::fork_from(void* stream) {
  if (device_) device_->rank().fork_from(stream);
}

void ProcessWorld::join_to(void* stream) {
  if (device_) device_->rank().join_to(stream);
}

// NVSHMEM's memory is given back by all ranks together, or stays.
bool ProcessWorld::release_device() noexcept {
  try {
    device_->rank().make_current();
    if (!device_->rank().drain().empty()) return false;
    barrier();
    device_->release();
    return true;
  } catch (const Error&) {
    return false;
  }
}

ProcessWorld::~ProcessWorld() {
  if (std::uncaught_exceptions() > num_exceptions_ && !failures_.failed()) {
    // Others would wait for this rank until their time is over.
    view_.report_failure(ErrorCode::internal,
                         fmt::format("[world] rank {} has left with an exception", rank()));
  }
  bool is_good = !failures_.failed();
  if (is_good && device_) is_good = release_device();
  if (!is_good) watch_->settle();
  control_.member(rank()).has_left.store(1, std::memory_order_release);
  if (network_ != nullptr) network_->finish(is_good ? timeout_ : kLastWords);
  watch_.reset();
  if (is_good) group_->leave();
}

void ProcessWorld::check_equal_bytes(std::uint64_t meeting, std::string_view call) const {
  std::vector<std::uint64_t> sizes;
  for (int rank = 0; rank < group_->size(); ++rank) {
    sizes.push_back(rendezvous_.post(rank, meeting).bytes);
  }
  const bool equal = std::all_of(sizes.begin(), sizes.end(),
                                 [&](std::uint64_t bytes) { return bytes == sizes[0]; });
  check(equal, ErrorCode::mismatch,
        "[world] bytes of {} differ between ranks: {} in rank order, one size", call,
        fmt::join(sizes, ", "));
}

SymmetricBuffer ProcessWorld::allocate(std::size_t bytes) {
  return device_ ? allocate_device(bytes) : allocate_host(bytes);
}

void ProcessWorld::check_had(std::uint64_t meeting, std::size_t bytes) const {
  for (int peer = 0; peer < group_->size(); ++peer) {
    check(rendezvous_.post(peer, meeting).fd == 0, ErrorCode::capacity,
          "[world] out of memory: rank {} cannot have {} bytes shared with all ranks", peer, bytes);
  }
}

// All have said how much, and that their GPUs have it, before anybody asks NVSHMEM, which waits for
// all and checks nothing.
SymmetricBuffer ProcessWorld::allocate_device(std::size_t bytes) {
  SharedPost post;
  post.bytes = bytes;
  check_equal_bytes(rendezvous_.meet(view_, ProcessRendezvous::Call::allocate, post), "allocate");
  const DeviceMemory own = device_->memory_for(bytes);
  std::vector<DeviceMemory> all(static_cast<std::size_t>(size()));
  all_gather(&own, all.data(), sizeof(own));
  check_memory(all);
  std::vector<std::byte*> peers = device_->allocate(bytes);
  post.fd = peers.empty() ? -1 : 0;
  check_had(rendezvous_.meet(view_, ProcessRendezvous::Call::allocate, post), bytes);
  std::byte* const local = peers[static_cast<std::size_t>(rank())];
  return {local, std::move(peers), bytes};
}

SymmetricBuffer ProcessWorld::allocate_host(std::size_t bytes) {
  const auto own_rank = static_cast<std::size_t>(rank());
  std::vector<SharedMemory> parts(static_cast<std::size_t>(size()));
  parts[own_rank] = SharedMemory(bytes);
  SharedPost post;
  post.bytes = bytes;
  post.fd = parts[own_rank].fd();
  const std::uint64_t meeting = rendezvous_.meet(view_, ProcessRendezvous::Call::allocate, post);
  check_equal_bytes(meeting, "allocate");
  std::vector<std::byte*> peers;
  bool has_all = true;
  for (int peer = 0; peer < size(); ++peer) {
    SharedMemory& part = parts[static_cast<std::size_t>(peer)];
    if (!hosts_.is_here(peer)) {
      part = SharedMemory(bytes);  // a mirror
      part.close_fd();
    } else if (peer != rank()) {
      part = SharedMemory(control_.member(peer).pid.load(std::memory_order_relaxed),
                          rendezvous_.post(peer, meeting).fd, bytes);
    }
    peers.push_back(part.data());
    has_all = has_all && part.data() != nullptr;
  }
  if (network_ != nullptr && has_all) network_->add_buffer(peers, bytes);
  // All have looked for all: then descriptors may go, and all agree on what came of it.
  post.fd = has_all ? 0 : -1;
  const std::uint64_t looked = rendezvous_.meet(view_, ProcessRendezvous::Call::allocate, post);
  parts[own_rank].close_fd();
  check_had(looked, bytes);
  for (SharedMemory& part : parts) memory_.push_back(std::move(part));
  std::byte* const local = peers[own_rank];
  return {local, std::move(peers), bytes};
}

void ProcessWorld::barrier() { rendezvous_.meet(view_, ProcessRendezvous::Call::barrier, {}); }

void ProcessWorld::all_gather(const void* in, void* out, std::size_t bytes) {
  std::size_t done = 0;
  do {
    const std::size_t count = std::min(bytes - done, SharedPost::kMaxPayload);
    SharedPost post;
    post.bytes = bytes;
    if (count > 0) std::memcpy(post.payload, static_cast<const std::byte*>(in) + done, count);
    const std::uint64_t meeting =
        rendezvous_.meet(view_, ProcessRendezvous::Call::all_gather, post);
    check_equal_bytes(meeting, "all_gather");
    for (int rank = 0; count > 0 && rank < size(); ++rank) {
      std::memcpy(static_cast<std::byte*>(out) + static_cast<std::size_t>(rank) * bytes + done,
                  rendezvous_.post(rank, meeting).payload, count);
    }
    done += count;
  } while (done < bytes);
}

void ProcessWorld::set_link(const LinkSpec& link) {
  SharedPost post;
  post.link = link;
  const std::uint64_t meeting = rendezvous_.meet(view_, ProcessRendezvous::Call::set_link, post);
  for (int rank = 1; rank < size(); ++rank) {
    const LinkSpec& first = rendezvous_.post(0, meeting).link;
    const LinkSpec& other = rendezvous_.post(rank, meeting).link;
    check(is_same_link(other, first), ErrorCode::mismatch,
          "[world] links differ between ranks: rank 0 has {}, rank {} has {}", to_string(first),
          rank, to_string(other));
  }
  check_process_link(link, device_.get());
  // The second meeting says that the new link is set; the first, that nobody uses the old one.
  if (device_ && rank() == 0) device_->set_pace(pacing_rate(link));
  // It says whether the link is paced; a GPU's kernels have clocks of their own.
  link_.set_rate(pacing_rate(link));
  spec_ = link;
  rendezvous_.meet(view_, ProcessRendezvous::Call::set_link, post);
}

void ProcessWorld::recover() {
  watch_->settle();
  if (device_) {
    DeviceRank& device = device_->rank();
    device.make_current();
    const std::string stuck = device.drain();  // its kernels leave, since the world has failed
    check(stuck.empty(), ErrorCode::internal, "[world] rank {} cannot recover, its GPU says: {}",
          rank(), stuck);
    view_.epoch = device.epoch();
  }
  const ProcessRecovery::Outcome outcome = recovery_.meet(view_);
  view_.epoch = outcome.epoch;
  rendezvous_.continue_from(outcome.meeting);
  progress_.set(rank(), {outcome.epoch, Stage::idle, -1});
  if (device_) {
    device_->clear_failure();
    if (rank() == 0) device_->set_pace(pacing_rate(spec_));  // also forgets what was booked
    device_->rank().reset(outcome.epoch);
  }
  watch_->clear(outcome.number);
  if (device_) barrier();  // nobody begins before rank 0 has cleared what all share
}

}  // namespace comet
