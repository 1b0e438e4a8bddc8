// SPDX-License-Identifier: Apache-2.0
#include "comm/process/remote_control.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/check.hpp"
#include "comm/process/failure_watch.hpp"

namespace comet {
namespace {

// Of a post the payload goes last, and only as far as it is used.
constexpr std::size_t kPostHead = offsetof(SharedPost, payload);

std::size_t post_bytes(const SharedPost& post) {
  return kPostHead + std::min<std::uint64_t>(post.bytes, SharedPost::kMaxPayload);
}

}  // namespace

void RemoteControl::tell_meeting(std::uint64_t meeting, const SharedPost& post) {
  network_.send_all({.kind = MessageKind::meeting, .rank = view_.rank, .id = meeting}, &post,
                    post_bytes(post));
}

void RemoteControl::tell_came() {
  const Member& own = control_.member(view_.rank);
  network_.send_all({.kind = MessageKind::came,
                     .rank = view_.rank,
                     .id = own.came_to.load(std::memory_order_relaxed),
                     .offset = own.meeting.load(std::memory_order_relaxed),
                     .value = own.epoch.load(std::memory_order_relaxed)});
}

void RemoteControl::tell_gave_up() {
  network_.send_all({.kind = MessageKind::gave_up,
                     .rank = view_.rank,
                     .id = control_.member(view_.rank).gave_up.load(std::memory_order_relaxed)});
}

void RemoteControl::tell_decision() {
  const RecoveryDecision& decision = control_.member(0).decision;
  network_.send_all({.kind = MessageKind::decision,
                     .rank = 0,
                     .id = decision.number.load(std::memory_order_relaxed),
                     .offset = decision.meeting.load(std::memory_order_relaxed),
                     .value = decision.epoch.load(std::memory_order_relaxed)});
}

void RemoteControl::tell_failure(std::uint32_t generation, int rank, ErrorCode code,
                                 const std::string& sentence) {
  network_.send_all({.kind = MessageKind::failure,
                     .rank = rank,
                     .id = generation,
                     .value = static_cast<std::uint32_t>(code)},
                    sentence.data(), std::min(sentence.size(), FailureRecord::kMaxSentence));
}

void RemoteControl::on_message(int rank, const Message& message, const std::byte* bytes) {
  Member& member = control_.member(rank);
  const auto number = static_cast<std::uint32_t>(message.id);
  switch (message.kind) {
    case MessageKind::meeting:
      take_meeting(member, message, bytes);
      break;
    case MessageKind::came:
      member.epoch.store(message.value, std::memory_order_relaxed);
      member.meeting.store(message.offset, std::memory_order_relaxed);
      member.gave_up.store(0, std::memory_order_relaxed);
      member.came_to.store(number, std::memory_order_seq_cst);
      break;
    case MessageKind::gave_up:
      member.gave_up_ns.store(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                  std::chrono::steady_clock::now().time_since_epoch())
                                  .count(),
                              std::memory_order_relaxed);
      member.gave_up.store(number, std::memory_order_seq_cst);
      break;
    case MessageKind::decision:
      member.decision.epoch.store(message.value, std::memory_order_relaxed);
      member.decision.meeting.store(message.offset, std::memory_order_relaxed);
      member.decision.number.store(number, std::memory_order_release);
      break;
    case MessageKind::failure:
      take_failure(message, bytes);
      break;
    case MessageKind::progress:
      control_.progress_words()[rank].store(message.id, std::memory_order_relaxed);
      break;
    case MessageKind::left:
      member.has_left.store(1, std::memory_order_release);
      break;
    default:
      fail(ErrorCode::internal, "a message of kind {}", static_cast<std::uint32_t>(message.kind));
  }
  view_.doorbell().ring();
}

void RemoteControl::take_meeting(Member& member, const Message& message,
                                 const std::byte* bytes) const {
  check(message.bytes >= kPostHead && message.bytes <= sizeof(SharedPost), ErrorCode::internal,
        "a meeting of {} bytes", message.bytes);
  std::memcpy(static_cast<void*>(&member.posts[message.id % 2]), bytes, message.bytes);
  member.meeting.store(message.id, std::memory_order_seq_cst);
}

void RemoteControl::take_failure(const Message& message, const std::byte* bytes) const {
  watch_->hear(static_cast<std::uint32_t>(message.id), message.rank,
               static_cast<ErrorCode>(message.value),
               {reinterpret_cast<const char*>(bytes), message.bytes});
}

void RemoteControl::on_gone(int rank, const std::string& how) { watch_->report_gone(rank, how); }

void RemoteControl::on_tick() {
  const std::uint64_t progress =
      control_.progress_words()[view_.rank].load(std::memory_order_relaxed);
  if (progress == told_progress_) return;
  told_progress_ = progress;
  network_.send_all({.kind = MessageKind::progress, .rank = view_.rank, .id = progress});
}

}  // namespace comet
