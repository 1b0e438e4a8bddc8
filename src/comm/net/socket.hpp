// SPDX-License-Identifier: Apache-2.0
// Sockets: TCP as far as worlds need it.
#pragma once

#include <netinet/in.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace comet {

/// A descriptor that is closed with the object.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) noexcept : fd_(fd) {}
  ~Socket();
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const noexcept { return fd_; }
  bool is_open() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Where a process can be reached.
struct NetAddress {
  sockaddr_in6 ip6 = {};  ///< IPv4 as a mapped address, so that one kind of socket serves both.
};

/// "10.0.0.2 port 40123".
std::string to_string(const NetAddress& address);

/// This host's addresses with `port`, at most `most`: those of interfaces that are up, loopback
/// ones only if there are no others. `interface_name` names the only one to take, if not empty.
std::vector<NetAddress> own_addresses(std::uint16_t port, std::size_t most,
                                      const std::string& interface_name);

/// A socket that listens at any address, and its port. Not open if that failed; errno says why.
std::pair<Socket, std::uint16_t> listen_anywhere();

using Deadline = std::chrono::steady_clock::time_point;

/// The next connection, or none by the deadline.
Socket accept_one(const Socket& listener, Deadline deadline);
/// A connection, or none by the deadline; errno says why.
Socket connect_to(const NetAddress& address, Deadline deadline);

/// Exactly so many bytes by the deadline. False, with errno, if that failed.
bool send_all(const Socket& socket, const void* data, std::size_t bytes, Deadline deadline);
bool receive_all(const Socket& socket, void* data, std::size_t bytes, Deadline deadline);

}  // namespace comet
