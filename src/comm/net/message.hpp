// SPDX-License-Identifier: Apache-2.0
// What travels on a connection between two ranks: headers of one size, some with bytes after them.
#pragma once

#include <cstdint>
#include <type_traits>

namespace comet {

enum class MessageKind : std::uint32_t {
  hello,     ///< The first one each way; bytes: the world's token.
  alive,     ///< Nothing else was sent for a while.
  left,      ///< The last one: the rank is done with the world.
  put,       ///< rank's part of buffer `id`, at `offset`; its bytes follow.
  signal,    ///< The receiver's part of buffer `id`, at `offset`: `value`.
  meeting,   ///< The sender has entered meeting `id`; its SharedPost follows.
  came,      ///< The sender waits in recovery `id`, with `value` calls begun, at meeting `offset`.
  gave_up,   ///< The sender gave up recovery `id`.
  decision,  ///< Rank 0 decided recovery `id`: epoch `value`, meeting `offset`.
  failure,   ///< Of `rank`, in generation `id`, ErrorCode `value`; the sentence follows.
  progress,  ///< The sender's word of the ProgressBoard is `id`.
};

/// In the byte order of the machine: all hosts of a world have the same.
struct Message {
  MessageKind kind = MessageKind::alive;
  std::int32_t rank = 0;
  std::uint64_t id = 0;
  std::uint64_t offset = 0;
  std::uint32_t value = 0;
  std::uint32_t bytes = 0;  ///< That follow, at most kMaxBytes.

  static constexpr std::uint32_t kMaxBytes = 1U << 30U;
};
static_assert(std::is_trivially_copyable_v<Message> && sizeof(Message) == 32);

}  // namespace comet
