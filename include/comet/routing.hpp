// SPDX-License-Identifier: Apache-2.0
// A borrowed view of a router's output for the tokens of one rank.
#pragma once

#include <cstdint>

namespace comet {

/// Element type of expert ids.
enum class IdType : std::uint8_t { i32, i64 };

/// Ids and weights of one rank's tokens. Id -1 drops that choice, whose weight is then not read;
/// the same id twice in one token's list counts twice. Ids are global expert ids. Both arrays are
/// dense, row-major [tokens, topk].
struct RoutingView {
  const void* ids = nullptr;       ///< int32 or int64, by id_type; may be null if tokens == 0.
  const float* weights = nullptr;  ///< May be null if tokens == 0.
  std::int64_t tokens = 0;         ///< T of this rank, 0 to max_tokens.
  IdType id_type = IdType::i32;    ///< What `ids` points to.
  /// cuda: T as a word in device memory, read when the call runs; `tokens` is then the most that it
  /// may say, and the rows of x and y. Null: `tokens` is T.
  const std::int32_t* device_tokens = nullptr;

  /// Entry `index` of [tokens * topk] ids, unchecked.
  std::int64_t id(std::int64_t index) const noexcept {
    return id_type == IdType::i32 ? static_cast<const std::int32_t*>(ids)[index]
                                  : static_cast<const std::int64_t*>(ids)[index];
  }
};

}  // namespace comet
