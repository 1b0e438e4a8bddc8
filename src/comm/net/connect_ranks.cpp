// SPDX-License-Identifier: Apache-2.0
#include "comm/net/connect_ranks.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <string_view>

#include "base/check.hpp"
#include "base/env.hpp"
#include "comm/net/message.hpp"

namespace comet {
namespace {

using Token = std::array<std::uint32_t, 4>;
using Sentence = std::array<char, 500>;

// A stranger that connects and says nothing holds up the others for this long.
constexpr std::chrono::seconds kHelloLimit(5);

// What every rank tells all others before there are connections.
struct Card {
  Token token = {};  // that of rank 0 is the world's
  std::uint32_t num_addresses = 0;
  std::array<NetAddress, 8> addresses = {};
  std::array<char, 64> interface_name = {};  // as COMET_INTERFACE has it, cut, for a sentence
};

Token random_token() {
  std::random_device random;
  Token token;
  for (std::uint32_t& word : token) word = random();
  return token;
}

// Who has no address is waited for in vain. All ranks see the same cards and say the same.
void check_addresses(const std::vector<Card>& cards) {
  for (std::size_t rank = 0; rank < cards.size(); ++rank) {
    if (cards[rank].num_addresses > 0) continue;
    const std::string_view name = cards[rank].interface_name.data();
    fail(ErrorCode::unsupported,
         "[world] rank {} has no network address, and ranks of other hosts cannot reach it: {}",
         rank,
         name.empty()
             ? "no interface of its host is up"
             : fmt::format("COMET_INTERFACE is '{}', and its host has no such interface that is up",
                           name));
  }
}

class Connector {
 public:
  Connector(const ProcessGroup& group, const Hosts& hosts, const std::vector<Card>& cards,
            Deadline deadline)
      : rank_(group.rank()), hosts_(hosts), cards_(cards), deadline_(deadline) {}

  std::vector<Socket> run(const Socket& listener) {
    sockets_.resize(cards_.size());
    for (int rank = 0; rank < rank_; ++rank) {
      if (!hosts_.is_here(rank)) reach(rank);
    }
    while (const int missing = first_missing()) accept_next(listener, missing);
    return std::move(sockets_);
  }

 private:
  Socket& socket_of(int rank) { return sockets_[static_cast<std::size_t>(rank)]; }

  // The first higher rank of another host that has not connected, or 0.
  int first_missing() {
    for (int rank = rank_ + 1; rank < static_cast<int>(cards_.size()); ++rank) {
      if (!hosts_.is_here(rank) && !socket_of(rank).is_open()) return rank;
    }
    return 0;
  }

  void reach(int rank) {
    const Card& card = cards_[static_cast<std::size_t>(rank)];
    std::string tried;
    for (std::uint32_t i = 0; i < card.num_addresses; ++i) {
      const auto now = std::chrono::steady_clock::now();
      // Each address gets its share of what is left, so that a silent one does not take it all.
      const Deadline limit = now + (deadline_ - now) / (card.num_addresses - i);
      Socket socket = connect_to(card.addresses[i], limit);
      Message answer;
      if (socket.is_open() && say_hello(socket, limit) &&
          receive_all(socket, &answer, sizeof(answer), limit) && is_hello(socket, answer, limit) &&
          answer.rank == rank) {
        socket_of(rank) = std::move(socket);
        return;
      }
      tried += fmt::format("{}{} ({})", tried.empty() ? "" : ", ", to_string(card.addresses[i]),
                           std::strerror(errno));
    }
    fail(ErrorCode::unsupported,
         "[world] rank {} cannot reach rank {} on another host at {}; ranks of several hosts need "
         "TCP between them, and COMET_INTERFACE can name the network interface to use",
         rank_, rank, tried);
  }

  void accept_next(const Socket& listener, int missing) {
    Socket socket = accept_one(listener, deadline_);
    check(socket.is_open(), ErrorCode::unsupported,
          "[world] rank {} on another host did not connect to rank {} in time", missing, rank_);
    const Deadline limit = std::min(deadline_, std::chrono::steady_clock::now() + kHelloLimit);
    Message hello;
    if (!receive_all(socket, &hello, sizeof(hello), limit) || !is_hello(socket, hello, limit) ||
        hello.rank <= rank_ || hello.rank >= static_cast<int>(cards_.size()) ||
        hosts_.is_here(hello.rank) || !say_hello(socket, limit)) {
      return;  // a stranger
    }
    socket_of(hello.rank) = std::move(socket);
  }

  bool say_hello(const Socket& socket, Deadline limit) const {
    const Message hello{.kind = MessageKind::hello,
                        .rank = rank_,
                        .bytes = static_cast<std::uint32_t>(sizeof(Token))};
    return send_all(socket, &hello, sizeof(hello), limit) &&
           send_all(socket, cards_.front().token.data(), sizeof(Token), limit);
  }

  bool is_hello(const Socket& socket, const Message& message, Deadline limit) const {
    Token token{};
    errno = EPROTO;
    return message.kind == MessageKind::hello && message.bytes == sizeof(Token) &&
           receive_all(socket, token.data(), sizeof(Token), limit) && token == cards_.front().token;
  }

  int rank_;
  const Hosts& hosts_;
  const std::vector<Card>& cards_;
  Deadline deadline_;
  std::vector<Socket> sockets_;
};

}  // namespace

std::vector<Socket> connect_ranks(ProcessGroup& group, const Hosts& hosts,
                                  std::chrono::milliseconds timeout) {
  const auto size = static_cast<std::size_t>(group.size());
  auto [listener, port] = listen_anywhere();
  Card own;
  own.token = random_token();
  if (listener.is_open()) {
    const auto found = own_addresses(port, own.addresses.size(), env().interface_name);
    std::copy(found.begin(), found.end(), own.addresses.begin());
    own.num_addresses = static_cast<std::uint32_t>(found.size());
  }
  const std::string& name = env().interface_name;
  std::copy_n(name.begin(), std::min(name.size(), own.interface_name.size() - 1),
              own.interface_name.begin());
  std::vector<Card> cards(size);
  group.all_gather(&own, cards.data(), sizeof(Card));
  check_addresses(cards);
  std::vector<Socket> sockets;
  Sentence trouble{};
  try {
    sockets =
        Connector(group, hosts, cards, std::chrono::steady_clock::now() + timeout).run(listener);
  } catch (const Error& error) {
    const std::string text = error.what();
    std::copy_n(text.begin(), std::min(text.size(), trouble.size() - 1), trouble.begin());
  }
  std::vector<Sentence> troubles(size);
  group.all_gather(&trouble, troubles.data(), sizeof(Sentence));
  for (const Sentence& sentence : troubles) {
    if (sentence.front() != '\0') throw Error(ErrorCode::unsupported, sentence.data());
  }
  return sockets;
}

}  // namespace comet
