// SPDX-License-Identifier: Apache-2.0
#include "check/share_outputs.hpp"

#include <cstring>
#include <span>
#include <type_traits>

namespace comet {
namespace {

// One run of one rank; the bytes of its texts, then of y, follow. Most runs of a case have the same
// y, which travels once.
struct Head {
  CallStats stats = {};
  ErrorCode code = ErrorCode::internal;
  bool has_error = false;
  std::uint64_t sentence_bytes = 0;
  std::uint64_t difference_bytes = 0;
  std::uint64_t y_bytes = 0;
  std::int64_t same_y_as = -1;  // an earlier run, or -1
};
static_assert(std::is_trivially_copyable_v<Head>);

void append(Bytes& bytes, const void* data, std::size_t count) {
  const auto* const begin = static_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), begin, begin + count);
}

std::int64_t find_same_y(const Outputs& outputs, std::size_t run, std::size_t rank) {
  for (std::size_t earlier = 0; earlier < run; ++earlier) {
    if (outputs[earlier][rank].y == outputs[run][rank].y) return static_cast<std::int64_t>(earlier);
  }
  return -1;
}

Bytes pack(const Outputs& outputs, std::size_t rank) {
  Bytes bytes;
  for (std::size_t run = 0; run < outputs.size(); ++run) {
    const RunOutput& output = outputs[run][rank];
    const RunError error = output.error.value_or(RunError{});
    const std::int64_t same = find_same_y(outputs, run, rank);
    const Head head{.stats = output.stats,
                    .code = error.code,
                    .has_error = output.error.has_value(),
                    .sentence_bytes = error.sentence.size(),
                    .difference_bytes = output.difference.size(),
                    .y_bytes = same < 0 ? output.y.size() : 0,
                    .same_y_as = same};
    append(bytes, &head, sizeof(head));
    append(bytes, error.sentence.data(), error.sentence.size());
    append(bytes, output.difference.data(), output.difference.size());
    append(bytes, output.y.data(), head.y_bytes);
  }
  return bytes;
}

void unpack(std::span<const std::byte> bytes, std::size_t rank, Outputs& outputs) {
  const auto take = [&](void* to, std::size_t count) {
    if (count > 0) std::memcpy(to, bytes.data(), count);
    bytes = bytes.subspan(count);
  };
  for (auto& of_run : outputs) {
    Head head;
    take(&head, sizeof(head));
    RunOutput& output = of_run[rank];
    output.stats = head.stats;
    RunError error{head.code, std::string(head.sentence_bytes, '\0')};
    take(error.sentence.data(), head.sentence_bytes);
    if (head.has_error) output.error = error;
    output.difference.resize(head.difference_bytes);
    take(output.difference.data(), head.difference_bytes);
    output.y.resize(head.y_bytes);
    take(output.y.data(), head.y_bytes);
    if (head.same_y_as >= 0) output.y = outputs[static_cast<std::size_t>(head.same_y_as)][rank].y;
  }
}

}  // namespace

void share_outputs(World& world, Outputs& outputs) {
  const auto own = static_cast<std::size_t>(world.rank());
  const std::vector<Bytes> all = gather_bytes(world, pack(outputs, own));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (rank != own) unpack(all[rank], rank, outputs);
  }
}

}  // namespace comet
