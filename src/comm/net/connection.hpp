// SPDX-License-Identifier: Apache-2.0
// Connection: messages to and from one rank of another host, in order.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "comm/net/message.hpp"
#include "comm/net/socket.hpp"

namespace comet {

/// post() is for any thread, all else for the network's.
class Connection {
 public:
  /// Who gets what arrives.
  class Receiver {
   public:
    Receiver() = default;
    virtual ~Receiver() = default;
    Receiver(const Receiver&) = delete;
    Receiver& operator=(const Receiver&) = delete;

    /// Where the bytes of a put go. Throws Error if there is no such place.
    virtual std::byte* place(const Message& message) = 0;
    /// A message other than a put, with its bytes.
    virtual void take(const Message& message, const std::byte* bytes) = 0;
  };

  explicit Connection(Socket socket) : socket_(std::move(socket)), heard_(Clock::now()) {}

  /// Queues a message; `data` stays the caller's, see RemoteRanks::put.
  void post(const Message& message, const std::byte* data = nullptr);
  /// The same with bytes of the connection's own.
  void post_copy(const Message& message, const void* data, std::size_t bytes);

  int fd() const noexcept { return socket_.fd(); }
  /// Nothing more will arrive: the other end has said its last, or the connection broke. If it did
  /// not break, the other end may still hear what is sent.
  bool has_ended() const noexcept { return has_ended_; }
  /// Something queued has not been taken by the kernel yet.
  bool has_more();
  std::chrono::steady_clock::time_point last_heard() const noexcept { return heard_; }
  std::chrono::steady_clock::time_point last_sent() const noexcept { return sent_; }

  /// Sends until the kernel takes no more, or a share that lets other connections have their turn.
  /// True if anything was sent.
  bool send_some();
  /// Takes what has arrived, up to such a share. Throws what `receiver` throws, or
  /// Error(internal) on bytes that are no message.
  void receive_some(Receiver& receiver);
  /// Neither sends nor receives any more.
  void give_up() noexcept {
    has_ended_ = true;
    can_send_ = false;
  }
  /// Nothing more will be sent.
  void shut_down() noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  struct Outgoing {
    Message message;
    const std::byte* data;        // null: in `copy`
    std::vector<std::byte> copy;  // of small messages

    const std::byte* bytes() const noexcept { return data != nullptr ? data : copy.data(); }
  };

  void take_posted();
  void drop_sent(std::size_t bytes);
  std::size_t parse(const std::byte* data, std::size_t bytes, Receiver& receiver);
  void begin_message(Receiver& receiver);

  Socket socket_;
  bool has_ended_ = false;
  bool can_send_ = true;
  std::mutex mutex_;
  std::deque<Outgoing> posted_;  // under mutex_
  std::deque<Outgoing> sending_;
  std::size_t front_sent_ = 0;  // bytes of sending_.front(), header first
  Clock::time_point heard_;
  Clock::time_point sent_{};

  std::vector<std::byte> buffer_;  // what recv fills, unless it fills a put's place
  Message message_;                // that arrives
  std::size_t header_got_ = 0;
  std::size_t bytes_got_ = 0;
  std::byte* place_ = nullptr;    // of a put's bytes
  std::vector<std::byte> bytes_;  // of another message
};

}  // namespace comet
