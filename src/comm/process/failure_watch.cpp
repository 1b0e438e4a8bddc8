// SPDX-License-Identifier: Apache-2.0
#include "comm/process/failure_watch.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.hpp"

namespace comet {
namespace {

constexpr int kLookMs = 5;  // between two looks at the boards

// A descriptor that polls readable once the process has ended, or -1 if there is none: because it
// has ended (ESRCH), or because this system has none, where only the limits of waits are left.
int open_process(std::int32_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0U));
}

}  // namespace

FailureWatch::FailureWatch(const ControlBlock& control, const WorldView& view,
                           RemoteControl* remote)
    : control_(control),
      view_(view),
      remote_(remote),
      peers_(static_cast<std::size_t>(control.size()), -1) {
  for (int rank = 0; rank < control.size(); ++rank) {
    if (!control.is_here(rank)) continue;  // its connection tells
    const std::int32_t pid = control.member(rank).pid.load(std::memory_order_relaxed);
    if (pid == ::getpid()) continue;
    const int peer = open_process(pid);
    check(peer >= 0 || errno != EMFILE, ErrorCode::capacity,
          "[world] rank {}: more open files than its limit, of which it needs one for each other "
          "rank: raise ulimit -n",
          view.rank);
    if (peer < 0 && errno == ESRCH) report_gone(rank, "has ended");
    peers_[static_cast<std::size_t>(rank)] = peer;
  }
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  check(stop_ >= 0, ErrorCode::internal, "[world] rank {}: no eventfd: {}", view.rank,
        std::strerror(errno));
  thread_ = std::thread([this] { watch(); });
}

FailureWatch::~FailureWatch() {
  const std::uint64_t one = 1;
  // It can only fail if the counter is full.
  [[maybe_unused]] const ssize_t written = ::write(stop_, &one, sizeof(one));
  thread_.join();
  ::close(stop_);
  for (const int peer : peers_) {
    if (peer >= 0) ::close(peer);
  }
}

void FailureWatch::settle() {
  const std::lock_guard lock(mutex_);
  exchange();
}

void FailureWatch::clear(std::uint32_t recoveries) {
  const std::lock_guard lock(mutex_);
  generation_.store(recoveries + 1, std::memory_order_release);
  view_.failures->clear();
  is_equal_ = false;
}

void FailureWatch::watch() {
  while (true) {
    std::vector<pollfd> watched{{stop_, POLLIN, 0}};
    for (const int peer : peers_) {
      if (peer >= 0) watched.push_back({peer, POLLIN, 0});
    }
    const int ready = ::poll(watched.data(), watched.size(), kLookMs);
    if (ready > 0 && watched.front().revents != 0) return;
    const std::lock_guard lock(mutex_);
    if (ready > 0) look_for_dead();
    exchange();
  }
}

void FailureWatch::look_for_dead() {
  for (int rank = 0; rank < control_.size(); ++rank) {
    int& peer = peers_[static_cast<std::size_t>(rank)];
    if (peer < 0) continue;
    pollfd ended{peer, POLLIN, 0};
    if (::poll(&ended, 1, 0) <= 0) continue;
    ::close(peer);
    peer = -1;
    report_gone(rank, "has ended");
  }
}

void FailureWatch::report_gone(int rank, const std::string& how) {
  const Member& member = control_.member(rank);
  if (member.has_left.load(std::memory_order_acquire) != 0) return;
  const Progress progress = view_.progress->get(rank);
  publish(rank, ErrorCode::peer,
          fmt::format("[world] rank {} is gone: its process {} {}, last in {} of call {}", rank,
                      member.pid.load(std::memory_order_relaxed), how, to_string(progress.stage),
                      progress.epoch));
}

void FailureWatch::exchange() {
  if (is_equal_) return;
  if (view_.failures->failed()) {
    try {
      view_.failures->rethrow(view_.rank);
    } catch (const Error& error) {
      publish(view_.rank, error.code(), error.what());
    }
    is_equal_ = true;
    return;
  }
  FailureRecord& record = control_.shared().failure;
  const std::uint64_t there = FailureRecord::there(generation());
  if (record.state.load(std::memory_order_acquire) != there) return;
  const int rank = record.rank;
  const auto code = static_cast<ErrorCode>(record.code);
  const std::string sentence(record.sentence,
                             std::min<std::size_t>(record.length, FailureRecord::kMaxSentence));
  // Others may be a recovery further and write the next one. Adding nothing releases: the reads
  // above cannot come after it.
  if (record.state.fetch_add(0, std::memory_order_acq_rel) != there) return;
  view_.failures->report(rank, code, sentence);
  is_equal_ = true;
  view_.doorbell().ring();
}

void FailureWatch::hear(std::uint32_t generation, int rank, ErrorCode code,
                        const std::string& sentence) {
  write_record(generation, rank, code, sentence);
}

// The first record of a host wins, and its writer tells the other hosts.
void FailureWatch::publish(int rank, ErrorCode code, const std::string& sentence) {
  const std::uint32_t generation = this->generation();
  if (!write_record(generation, rank, code, sentence)) return;
  if (remote_ != nullptr) remote_->tell_failure(generation, rank, code, sentence);
}

bool FailureWatch::write_record(std::uint32_t generation, int rank, ErrorCode code,
                                const std::string& sentence) {
  FailureRecord& record = control_.shared().failure;
  std::uint64_t state = record.state.load(std::memory_order_acquire);
  do {
    if (state >= FailureRecord::writing(generation)) return false;
  } while (!record.state.compare_exchange_weak(state, FailureRecord::writing(generation)));
  record.rank = rank;
  record.code = static_cast<std::int32_t>(code);
  record.length =
      static_cast<std::uint32_t>(std::min(sentence.size(), FailureRecord::kMaxSentence));
  std::copy_n(sentence.data(), record.length, record.sentence);
  record.state.store(FailureRecord::there(generation), std::memory_order_release);
  control_.ring_all();
  return true;
}

}  // namespace comet
