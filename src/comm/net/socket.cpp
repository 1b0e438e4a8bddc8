// SPDX-License-Identifier: Apache-2.0
#include "comm/net/socket.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace comet {
namespace {

constexpr int kSocketFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

Socket open_socket(int family) {
  Socket socket(::socket(family, kSocketFlags, 0));
  if (!socket.is_open()) return socket;
  const int off = 0;
  const int on = 1;
  if (family == AF_INET6) {
    ::setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket;
}

// The address as sockets of its family take it: those of IPv4 exist where IPv6 is switched off.
struct PlainAddress {
  sockaddr_storage storage = {};
  socklen_t length = 0;

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
};

PlainAddress plain(const NetAddress& address) {
  PlainAddress result;
  if (!IN6_IS_ADDR_V4MAPPED(&address.ip6.sin6_addr)) {
    std::memcpy(&result.storage, &address.ip6, sizeof(address.ip6));
    result.length = sizeof(address.ip6);
    return result;
  }
  sockaddr_in ip4{};
  ip4.sin_family = AF_INET;
  ip4.sin_port = address.ip6.sin6_port;
  std::memcpy(&ip4.sin_addr, address.ip6.sin6_addr.s6_addr + 12, 4);
  std::memcpy(&result.storage, &ip4, sizeof(ip4));
  result.length = sizeof(ip4);
  return result;
}

// Waits for `events`; false, with errno, at the deadline.
bool wait_for(const Socket& socket, std::int16_t events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd polled{socket.fd(), events, 0};
    const int ready = ::poll(&polled, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
    if (ready == 0 && left.count() <= 0) {
      errno = ETIMEDOUT;
      return false;
    }
  }
}

// Moves `bytes` bytes with `move`, which returns what send and recv do.
template <typename Move>
bool move_all(const Socket& socket, std::size_t bytes, std::int16_t events, Deadline deadline,
              const Move& move) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t count = move(done);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
      continue;
    }
    if (count == 0) errno = ECONNRESET;
    const bool may_wait = count < 0 && (errno == EAGAIN || errno == EINTR);
    if (!may_wait || !wait_for(socket, events, deadline)) return false;
  }
  return true;
}

bool is_usable(const ifaddrs& entry, bool loopback, const std::string& interface_name) {
  if (entry.ifa_addr == nullptr || (entry.ifa_flags & IFF_UP) == 0) return false;
  if (!interface_name.empty()) return interface_name == entry.ifa_name;
  return ((entry.ifa_flags & IFF_LOOPBACK) != 0) == loopback;
}

// False for kinds of addresses that hosts do not reach each other by.
bool read_address(const sockaddr& from, sockaddr_in6& to) {
  to = {};
  to.sin6_family = AF_INET6;
  if (from.sa_family == AF_INET) {
    sockaddr_in ip4{};
    std::memcpy(&ip4, &from, sizeof(ip4));
    std::array<std::uint8_t, 16> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::memcpy(mapped.data() + 12, &ip4.sin_addr, 4);
    std::memcpy(&to.sin6_addr, mapped.data(), mapped.size());
    return true;
  }
  if (from.sa_family != AF_INET6) return false;
  sockaddr_in6 ip6{};
  std::memcpy(&ip6, &from, sizeof(ip6));
  to.sin6_addr = ip6.sin6_addr;
  return !IN6_IS_ADDR_LINKLOCAL(&ip6.sin6_addr);
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

std::string to_string(const NetAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, &address.ip6.sin6_addr, text.data(), text.size());
  std::string name(text.data());
  if (constexpr std::string_view kMapped = "::ffff:"; name.starts_with(kMapped)) {
    name.erase(0, kMapped.size());
  }
  return fmt::format("{} port {}", name, ntohs(address.ip6.sin6_port));
}

std::vector<NetAddress> own_addresses(std::uint16_t port, std::size_t most,
                                      const std::string& interface_name) {
  std::vector<NetAddress> addresses;
  ifaddrs* entries = nullptr;
  if (::getifaddrs(&entries) != 0) return addresses;
  for (const bool loopback : {false, true}) {
    if (loopback && !addresses.empty()) break;
    for (const ifaddrs* entry = entries; entry != nullptr; entry = entry->ifa_next) {
      NetAddress address;
      if (!is_usable(*entry, loopback, interface_name)) continue;
      if (!read_address(*entry->ifa_addr, address.ip6) || addresses.size() == most) continue;
      address.ip6.sin6_port = htons(port);
      addresses.push_back(address);
    }
  }
  ::freeifaddrs(entries);
  return addresses;
}

std::pair<Socket, std::uint16_t> listen_anywhere() {
  for (const int family : {AF_INET6, AF_INET}) {
    Socket socket = open_socket(family);
    sockaddr_in6 any{};  // all zeros is any address of either family
    any.sin6_family = static_cast<sa_family_t>(family);
    socklen_t length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    auto* const address = reinterpret_cast<sockaddr*>(&any);
    if (!socket.is_open() || ::bind(socket.fd(), address, length) != 0 ||
        ::listen(socket.fd(), SOMAXCONN) != 0 ||
        ::getsockname(socket.fd(), address, &length) != 0) {
      continue;
    }
    return {std::move(socket), ntohs(any.sin6_port)};  // at the same place in both families
  }
  return {};
}

Socket accept_one(const Socket& listener, Deadline deadline) {
  while (wait_for(listener, POLLIN, deadline)) {
    Socket socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.is_open()) continue;  // it was there and went again
    const int on = 1;
    ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return socket;
  }
  return {};
}

Socket connect_to(const NetAddress& address, Deadline deadline) {
  const PlainAddress to = plain(address);
  Socket socket = open_socket(to.storage.ss_family);
  if (!socket.is_open()) return {};
  if (::connect(socket.fd(), to.get(), to.length) == 0) return socket;
  if (errno != EINPROGRESS || !wait_for(socket, POLLOUT, deadline)) return {};
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error == 0) return socket;
  errno = error;
  return {};
}

bool send_all(const Socket& socket, const void* data, std::size_t bytes, Deadline deadline) {
  return move_all(socket, bytes, POLLOUT, deadline, [&](std::size_t done) {
    return ::send(socket.fd(), static_cast<const std::byte*>(data) + done, bytes - done,
                  MSG_NOSIGNAL);
  });
}

bool receive_all(const Socket& socket, void* data, std::size_t bytes, Deadline deadline) {
  return move_all(socket, bytes, POLLIN, deadline, [&](std::size_t done) {
    return ::recv(socket.fd(), static_cast<std::byte*>(data) + done, bytes - done, 0);
  });
}

}  // namespace comet
