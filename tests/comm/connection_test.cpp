// SPDX-License-Identifier: Apache-2.0
#include "comm/net/connection.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <string>

#include "comet/error.hpp"

namespace comet {
namespace {

class Collector final : public Connection::Receiver {
 public:
  std::byte* place(const Message& message) override { return memory.data() + message.offset; }
  void take(const Message& message, const std::byte* bytes) override {
    taken += std::to_string(message.id) + ":" +
             std::string(reinterpret_cast<const char*>(bytes), message.bytes) + " ";
  }

  std::vector<std::byte> memory = std::vector<std::byte>(300000);
  std::string taken;
};

std::array<Socket, 2> make_pair() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
  return {Socket(ends[0]), Socket(ends[1])};
}

TEST(Connection, MessagesArriveInOrderAndPutsInTheirPlace) {
  auto [near, far] = make_pair();
  Connection from(std::move(near));
  Connection to(std::move(far));
  std::vector<std::byte> large(200000);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<std::byte>(i * 7);
  from.post_copy({.kind = MessageKind::failure, .id = 1}, "one", 3);
  from.post(
      {.kind = MessageKind::put, .offset = 1000, .bytes = static_cast<std::uint32_t>(large.size())},
      large.data());
  from.post_copy({.kind = MessageKind::failure, .id = 2}, "two", 3);
  Collector collector;
  for (int turn = 0; turn < 1000 && collector.taken.size() < 12; ++turn) {
    from.send_some();
    to.receive_some(collector);
  }
  EXPECT_EQ(collector.taken, "1:one 2:two ");
  EXPECT_EQ(std::memcmp(collector.memory.data() + 1000, large.data(), large.size()), 0);
  EXPECT_FALSE(from.has_more());
  from.shut_down();
  to.receive_some(collector);
  EXPECT_TRUE(to.has_ended());
}

// As two ranks that leave at about the same time: the later one must still be heard.
TEST(Connection, AnEndThatHasSaidItsLastStillHears) {
  auto [near, far] = make_pair();
  Connection early(std::move(near));
  Connection late(std::move(far));
  early.shut_down();
  Collector collector;
  late.receive_some(collector);
  ASSERT_TRUE(late.has_ended());
  late.post_copy({.kind = MessageKind::left, .id = 3}, "bye", 3);
  EXPECT_TRUE(late.has_more());
  EXPECT_TRUE(late.send_some());
  late.shut_down();
  early.receive_some(collector);
  EXPECT_EQ(collector.taken, "3:bye ");
  EXPECT_TRUE(early.has_ended());
}

// Of an end that is gone what is queued is dropped, so that nobody waits for it to be sent.
TEST(Connection, ToAnEndThatIsGoneNothingIsLeftToSend) {
  auto [near, far] = make_pair();
  Connection left(std::move(near));
  { const Socket gone = std::move(far); }
  Collector collector;
  left.receive_some(collector);
  EXPECT_TRUE(left.has_ended());
  for (int turn = 0; turn < 10 && left.has_more(); ++turn) left.send_some();
  left.post({.kind = MessageKind::left});
  left.send_some();
  EXPECT_FALSE(left.has_more());
}

TEST(Connection, BytesThatAreNoMessageAreRefused) {
  auto [near, far] = make_pair();
  Connection to(std::move(far));
  const Message nonsense{.kind = static_cast<MessageKind>(99)};
  ASSERT_EQ(::send(near.fd(), &nonsense, sizeof(nonsense), 0), ssize_t{sizeof(nonsense)});
  Collector collector;
  EXPECT_THROW(to.receive_some(collector), Error);
  EXPECT_EQ(collector.taken, "");
}

}  // namespace
}  // namespace comet
