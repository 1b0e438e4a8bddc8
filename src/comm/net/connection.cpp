// SPDX-License-Identifier: Apache-2.0
#include "comm/net/connection.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.hpp"

namespace comet {
namespace {

constexpr std::size_t kShare = std::size_t{1} << 20U;        // bytes of one turn
constexpr std::size_t kBufferBytes = std::size_t{1} << 16U;  // small messages arrive many at once
constexpr std::size_t kMostPieces = 128;                     // of one sendmsg; the system's is 1024

}  // namespace

void Connection::post(const Message& message, const std::byte* data) {
  const std::lock_guard lock(mutex_);
  posted_.push_back({message, data, {}});
}

void Connection::post_copy(const Message& message, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  Outgoing outgoing{message, nullptr, {from, from + bytes}};
  outgoing.message.bytes = static_cast<std::uint32_t>(bytes);
  const std::lock_guard lock(mutex_);
  posted_.push_back(std::move(outgoing));
}

void Connection::take_posted() {
  const std::lock_guard lock(mutex_);
  if (sending_.empty()) {
    sending_.swap(posted_);
    return;
  }
  std::move(posted_.begin(), posted_.end(), std::back_inserter(sending_));
  posted_.clear();
}

bool Connection::has_more() {
  take_posted();
  if (!can_send_) sending_.clear();
  return !sending_.empty();
}

bool Connection::send_some() {
  std::size_t sent = 0;
  while (sent < kShare && has_more()) {
    std::array<iovec, kMostPieces> pieces{};
    std::size_t num_pieces = 0;
    std::size_t skip = front_sent_;
    const auto add = [&](const void* data, std::size_t bytes) {
      if (skip < bytes) {
        pieces[num_pieces++] = {const_cast<std::byte*>(static_cast<const std::byte*>(data)) + skip,
                                bytes - skip};
      }
      skip -= std::min(skip, bytes);
    };
    for (const Outgoing& outgoing : sending_) {
      if (num_pieces + 2 > kMostPieces) break;
      add(&outgoing.message, sizeof(Message));
      add(outgoing.bytes(), outgoing.message.bytes);
    }
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = num_pieces;
    const ssize_t count = ::sendmsg(socket_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EINTR) continue;
      // Reading says it too, after what the other end had sent before.
      if (errno != EAGAIN) can_send_ = false;
      break;
    }
    sent += static_cast<std::size_t>(count);
    drop_sent(static_cast<std::size_t>(count));
  }
  if (sent > 0) sent_ = Clock::now();
  return sent > 0;
}

void Connection::drop_sent(std::size_t bytes) {
  front_sent_ += bytes;
  while (!sending_.empty()) {
    const std::size_t whole = sizeof(Message) + sending_.front().message.bytes;
    if (front_sent_ < whole) return;
    front_sent_ -= whole;
    sending_.pop_front();
  }
}

void Connection::receive_some(Receiver& receiver) {
  buffer_.resize(kBufferBytes);
  for (std::size_t received = 0; received < kShare && !has_ended_;) {
    // Most of a put goes straight to its place.
    const std::size_t direct = place_ != nullptr ? message_.bytes - bytes_got_ : 0;
    const bool is_direct = direct >= kBufferBytes;
    std::byte* const to = is_direct ? place_ + bytes_got_ : buffer_.data();
    const ssize_t count = ::recv(socket_.fd(), to, is_direct ? direct : kBufferBytes, MSG_DONTWAIT);
    if (count <= 0) {
      if (count < 0 && errno == EINTR) continue;
      if (count == 0) {
        has_ended_ = true;
      } else if (errno != EAGAIN) {
        give_up();
      }
      return;
    }
    heard_ = Clock::now();
    const auto bytes = static_cast<std::size_t>(count);
    received += bytes;
    if (is_direct) {
      bytes_got_ += bytes;
      if (bytes_got_ == message_.bytes) {
        place_ = nullptr;
        header_got_ = 0;
      }
    } else {
      for (std::size_t done = 0; done < bytes;) {
        done += parse(buffer_.data() + done, bytes - done, receiver);
      }
    }
  }
}

// Takes bytes of one message, to its end at most.
std::size_t Connection::parse(const std::byte* data, std::size_t bytes, Receiver& receiver) {
  std::size_t used = 0;
  if (header_got_ < sizeof(Message)) {
    used = std::min(bytes, sizeof(Message) - header_got_);
    std::memcpy(reinterpret_cast<std::byte*>(&message_) + header_got_, data, used);
    header_got_ += used;
    if (header_got_ < sizeof(Message)) return used;
    begin_message(receiver);
  }
  const std::size_t count = std::min(bytes - used, message_.bytes - bytes_got_);
  std::byte* const to = place_ != nullptr ? place_ : bytes_.data();
  if (count > 0) std::memcpy(to + bytes_got_, data + used, count);
  bytes_got_ += count;
  if (bytes_got_ < message_.bytes) return used + count;
  header_got_ = 0;
  if (place_ == nullptr) receiver.take(message_, bytes_.data());
  place_ = nullptr;
  return used + count;
}

void Connection::begin_message(Receiver& receiver) {
  check(message_.kind <= MessageKind::progress && message_.bytes <= Message::kMaxBytes,
        ErrorCode::internal, "[net] a message of kind {} with {} bytes",
        static_cast<std::uint32_t>(message_.kind), message_.bytes);
  bytes_got_ = 0;
  place_ = nullptr;
  if (message_.kind == MessageKind::put) {
    if (message_.bytes > 0) place_ = receiver.place(message_);
  } else {
    bytes_.resize(message_.bytes);
  }
}

void Connection::shut_down() noexcept {
  can_send_ = false;
  ::shutdown(socket_.fd(), SHUT_WR);
}

}  // namespace comet
