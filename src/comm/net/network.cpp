// SPDX-License-Identifier: Apache-2.0
#include "comm/net/network.hpp"

#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include "base/check.hpp"

namespace comet {
namespace {

constexpr std::chrono::milliseconds kLongestTick(1000);
constexpr std::chrono::milliseconds kShortestTick(5);

}  // namespace

// One rank of another host.
class Network::Peer final : public Connection::Receiver {
 public:
  Peer(Network& network, int rank, Socket socket)
      : network_(network), rank_(rank), connection_(std::move(socket)) {}

  std::byte* place(const Message& message) override {
    return network_.find(message, message.bytes);
  }

  void take(const Message& message, const std::byte* bytes) override {
    switch (message.kind) {
      case MessageKind::alive:
      case MessageKind::put:  // of no bytes
        return;
      case MessageKind::signal: {
        auto* const slot =
            reinterpret_cast<std::uint32_t*>(network_.find(message, sizeof(std::uint32_t)));
        std::atomic_ref(*slot).store(message.value, std::memory_order_release);
        network_.events_->on_signal();
        return;
      }
      default:
        network_.events_->on_message(rank_, message, bytes);
    }
  }

  Connection& connection() noexcept { return connection_; }

  void receive() {
    try {
      connection_.receive_some(*this);
    } catch (const std::exception& error) {  // what follows cannot be told from what was wrong
      connection_.give_up();
      tell_gone(fmt::format("on another host sent nonsense ({})", error.what()));
    }
    if (connection_.has_ended()) tell_gone("on another host has closed its connection");
  }

  void judge(Clock::time_point now, std::chrono::milliseconds limit) {
    if (now - connection_.last_heard() > limit) {
      tell_gone(fmt::format("on another host was not heard of for {} ms, it or the network stands",
                            limit.count()));
    } else {
      is_told_ = connection_.has_ended();  // it is heard again
    }
  }

 private:
  void tell_gone(const std::string& how) {
    if (!is_told_) network_.events_->on_gone(rank_, how);
    is_told_ = true;
  }

  Network& network_;
  int rank_;
  Connection connection_;
  bool is_told_ = false;
};

Network::Network(int rank, std::vector<Socket> connections, std::chrono::milliseconds timeout)
    : rank_(rank),
      timeout_(timeout),
      tick_(std::clamp(timeout / 8, kShortestTick, kLongestTick)),
      waker_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  check(waker_.is_open(), ErrorCode::internal, "[world] rank {}: no eventfd: {}", rank,
        std::strerror(errno));
  for (Socket& socket : connections) {
    const int peer = static_cast<int>(peers_.size());
    peers_.push_back(socket.is_open() ? std::make_unique<Peer>(*this, peer, std::move(socket))
                                      : nullptr);
  }
}

Network::~Network() { finish(std::chrono::milliseconds(0)); }

void Network::start(NetworkEvents& events) {
  events_ = &events;
  thread_ = std::thread([this] { serve(); });
}

void Network::finish(std::chrono::milliseconds limit) {
  if (!thread_.joinable()) return;
  send_all({.kind = MessageKind::left, .rank = rank_});
  finish_by_.store((Clock::now() + limit).time_since_epoch().count(), std::memory_order_release);
  ring();
  thread_.join();
}

void Network::add_buffer(const std::vector<std::byte*>& parts, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  buffers_.push_back({parts, bytes});
}

bool Network::is_remote(int rank) const noexcept {
  return peers_[static_cast<std::size_t>(rank)] != nullptr;
}

void Network::send(int rank, const Message& message, const void* bytes, std::size_t num_bytes) {
  peers_[static_cast<std::size_t>(rank)]->connection().post_copy(message, bytes, num_bytes);
  wake();
}

void Network::send_all(const Message& message, const void* bytes, std::size_t num_bytes) {
  for (const auto& peer : peers_) {
    if (peer != nullptr) peer->connection().post_copy(message, bytes, num_bytes);
  }
  wake();
}

void Network::put(int rank, const std::byte* data, std::int64_t bytes) {
  if (bytes == 0) return;  // such a place may be the end of the buffer
  Message message = locate(data);
  message.kind = MessageKind::put;
  bytes_put_.fetch_add(bytes, std::memory_order_relaxed);
  for (std::int64_t done = 0; done < bytes;) {
    const std::int64_t count = std::min<std::int64_t>(bytes - done, Message::kMaxBytes);
    message.bytes = static_cast<std::uint32_t>(count);
    peers_[static_cast<std::size_t>(rank)]->connection().post(message, data + done);
    message.offset += message.bytes;
    done += count;
  }
  wake();
}

void Network::signal(int rank, const std::uint32_t* slot, std::uint32_t value) {
  Message message = locate(reinterpret_cast<const std::byte*>(slot));
  message.kind = MessageKind::signal;
  message.value = value;
  peers_[static_cast<std::size_t>(rank)]->connection().post(message);
  wake();
}

Message Network::locate(const std::byte* data) const {
  const std::lock_guard lock(mutex_);
  for (std::size_t buffer = buffers_.size(); buffer-- > 0;) {  // the last one is in use most
    const Buffer& candidate = buffers_[buffer];
    for (std::size_t rank = 0; rank < candidate.parts.size(); ++rank) {
      const std::byte* const begin = candidate.parts[rank];
      if (data < begin || data >= begin + candidate.bytes) continue;
      return {.rank = static_cast<std::int32_t>(rank),
              .id = buffer,
              .offset = static_cast<std::uint64_t>(data - begin)};
    }
  }
  fail(ErrorCode::internal, "[net] rank {} puts what lies in no symmetric buffer", rank_);
}

std::byte* Network::find(const Message& message, std::size_t bytes) const {
  const std::lock_guard lock(mutex_);
  check(message.id < buffers_.size() && message.rank >= 0 &&
            message.rank < static_cast<int>(peers_.size()) &&
            message.offset <= buffers_[message.id].bytes &&
            bytes <= buffers_[message.id].bytes - message.offset,
        ErrorCode::internal, "bytes for buffer {} of rank {} at {}", message.id, message.rank,
        message.offset);
  return buffers_[message.id].parts[static_cast<std::size_t>(message.rank)] + message.offset;
}

// The thread says that it sleeps before it takes a last look at what is queued, under the same
// mutex: whoever queued something later sees it sleep.
void Network::wake() noexcept {
  if (sleeps_.exchange(false)) ring();
}

void Network::ring() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(waker_.fd(), &one, sizeof(one));
}

void Network::serve() {
  Clock::time_point next_tick = Clock::now() + tick_;
  while (true) {
    // Looked at first: what was queued before finish() is then on its way before the end.
    const auto finish_by = finish_by_.load(std::memory_order_acquire);
    const Clock::time_point end =
        finish_by == 0 ? Clock::time_point::max() : Clock::time_point(Clock::duration(finish_by));
    const bool has_sent = send_pending();
    if (finish_by != 0 && shut_down_idle() && all_have_ended()) return;
    if (!has_sent) wait_for_sockets(end);
    for (const auto& peer : peers_) {
      if (peer != nullptr && !peer->connection().has_ended()) peer->receive();
    }
    const Clock::time_point now = Clock::now();
    if (now >= next_tick) {
      judge_peers();
      events_->on_tick();
      next_tick = now + tick_;
    }
    if (now >= end) break;
  }
  for (const auto& peer : peers_) {
    if (peer != nullptr) peer->connection().shut_down();
  }
}

bool Network::send_pending() {
  bool has_sent = false;
  for (const auto& peer : peers_) {
    if (peer != nullptr) has_sent = peer->connection().send_some() || has_sent;
  }
  return has_sent;
}

// Until a socket has something to take or room for what waits to be sent, or a tick, or `end`.
void Network::wait_for_sockets(Clock::time_point end) {
  sleeps_.store(true);
  std::vector<pollfd> polled{{waker_.fd(), POLLIN, 0}};
  for (const auto& peer : peers_) {
    if (peer == nullptr) continue;
    Connection& connection = peer->connection();
    const int events =
        (connection.has_ended() ? 0 : POLLIN) | (connection.has_more() ? POLLOUT : 0);
    if (events == 0) continue;
    polled.push_back({connection.fd(), static_cast<std::int16_t>(events), 0});
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
  ::poll(polled.data(), polled.size(),
         static_cast<int>(std::clamp(left, std::chrono::milliseconds(0), tick_).count()));
  sleeps_.store(false);
  std::uint64_t count = 0;
  if (polled.front().revents != 0) {
    [[maybe_unused]] const ssize_t got = ::read(waker_.fd(), &count, sizeof(count));
  }
}

void Network::judge_peers() {
  const Clock::time_point now = Clock::now();
  for (const auto& peer : peers_) {
    if (peer == nullptr) continue;
    // Also to one that has said its last: it waits for the last of this rank.
    if (now - peer->connection().last_sent() >= tick_) {
      peer->connection().post({.kind = MessageKind::alive, .rank = rank_});
    }
    if (peer->connection().has_ended()) continue;
    // Before waits for it end, which cannot tell a cut from a slow rank.
    peer->judge(now, std::max(timeout_ - tick_, tick_));
  }
}

// Those that have nothing more to send. Whether all are.
bool Network::shut_down_idle() {
  bool are_all = true;
  for (const auto& peer : peers_) {
    if (peer == nullptr) continue;
    if (peer->connection().has_more()) {
      are_all = false;
    } else {
      peer->connection().shut_down();
    }
  }
  return are_all;
}

bool Network::all_have_ended() const {
  return std::all_of(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer == nullptr || peer->connection().has_ended();
  });
}

}  // namespace comet
