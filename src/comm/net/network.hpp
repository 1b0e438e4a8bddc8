// SPDX-License-Identifier: Apache-2.0
// Network: this process's connections to the ranks of other hosts, and the thread that serves them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/net/connection.hpp"
#include "comm/remote_ranks.hpp"

namespace comet {

/// What the network tells whoever keeps the world's words. Called on its thread.
class NetworkEvents {
 public:
  NetworkEvents() = default;
  virtual ~NetworkEvents() = default;
  NetworkEvents(const NetworkEvents&) = delete;
  NetworkEvents& operator=(const NetworkEvents&) = delete;

  /// A control message of `rank`, anything but puts, signals and what keeps a connection alive.
  virtual void on_message(int rank, const Message& message, const std::byte* bytes) = 0;
  /// The slot of a signal has been written.
  virtual void on_signal() = 0;
  /// `rank` can no longer be heard; `how` as in "its process 123 has ended". Once a rank and
  /// silence, whose end may be heard again.
  virtual void on_gone(int rank, const std::string& how) = 0;
  /// Every so often, at most a second apart.
  virtual void on_tick() = 0;
};

/// Sending is for any thread. Messages to one rank arrive in order.
class Network final : public RemoteRanks {
 public:
  /// `connections` [size] are open for the ranks of other hosts, see connect_ranks. A rank that is
  /// not heard of for seven eighths of `timeout` is gone.
  Network(int rank, std::vector<Socket> connections, std::chrono::milliseconds timeout);
  ~Network() override;

  /// Starts the thread. `events` outlives it.
  void start(NetworkEvents& events);
  /// Sends what is queued and that this rank has left, waits until the others have said the same
  /// or `limit` is over, and ends the thread.
  void finish(std::chrono::milliseconds limit);

  /// A symmetric buffer: `parts` [size] as this process has them. Before any rank puts to it. The
  /// same calls in the same order on all ranks.
  void add_buffer(const std::vector<std::byte*>& parts, std::size_t bytes);

  /// To one rank, or to all of other hosts.
  void send(int rank, const Message& message, const void* bytes, std::size_t num_bytes);
  void send_all(const Message& message, const void* bytes = nullptr, std::size_t num_bytes = 0);

  bool is_remote(int rank) const noexcept override;
  void put(int rank, const std::byte* data, std::int64_t bytes) override;
  void signal(int rank, const std::uint32_t* slot, std::uint32_t value) override;
  std::int64_t bytes_put() const noexcept override {
    return bytes_put_.load(std::memory_order_relaxed);
  }

 private:
  class Peer;
  using Clock = std::chrono::steady_clock;

  struct Buffer {
    std::vector<std::byte*> parts;  // [size]
    std::size_t bytes;
  };

  void serve();
  bool send_pending();
  void wait_for_sockets(Clock::time_point end);
  void judge_peers();
  bool shut_down_idle();
  bool all_have_ended() const;
  void wake() noexcept;
  void ring() noexcept;
  Message locate(const std::byte* data) const;
  std::byte* find(const Message& message, std::size_t bytes) const;

  int rank_;
  std::chrono::milliseconds timeout_;
  std::chrono::milliseconds tick_;
  std::vector<std::unique_ptr<Peer>> peers_;  // [size], null for ranks here
  NetworkEvents* events_ = nullptr;
  mutable std::mutex mutex_;
  std::vector<Buffer> buffers_;  // under mutex_
  std::atomic<std::int64_t> bytes_put_{0};
  std::atomic<bool> sleeps_{false};
  std::atomic<Clock::time_point::rep> finish_by_{0};  // 0: goes on
  Socket waker_;                                      // eventfd
  std::thread thread_;
};

}  // namespace comet
