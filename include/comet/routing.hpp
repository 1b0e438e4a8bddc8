// SPDX-License-Identifier: Apache-2.0
// A borrowed view of a router's output for the tokens of one rank.
#pragma once

#include <cstdint>

#include "comet/dtype.hpp"

namespace comet {

/// Element type of expert ids.
enum class IdType : std::uint8_t { i32, i64 };

/// Ids and weights of one rank's tokens. Id -1 drops that choice, whose weight is then not read;
/// the same id twice in one token's list counts twice. Ids are global expert ids. Both arrays are
/// dense, row-major [tokens, topk].
struct RoutingView {
  const void* ids = nullptr;       ///< int32 or int64, by id_type; may be null if tokens == 0.
  const void* weights = nullptr;   ///< By weight_type; may be null if tokens == 0.
  std::int64_t tokens = 0;         ///< T of this rank, 0 to max_tokens.
  IdType id_type = IdType::i32;    ///< What `ids` points to.
  DType weight_type = DType::f32;  ///< What `weights` points to: they are computed with as float32.
  /// cuda: T as a word in device memory, read when the call runs; `tokens` is then the most that it
  /// may say, and the rows of x and y. Null: `tokens` is T.
  const std::int32_t* device_tokens = nullptr;

  /// Entry `index` of [tokens * topk] ids, unchecked.
  std::int64_t id(std::int64_t index) const noexcept {
    return id_type == IdType::i32 ? static_cast<const std::int32_t*>(ids)[index]
                                  : static_cast<const std::int64_t*>(ids)[index];
  }
  /// The same of the weights.
  float weight(std::int64_t index) const noexcept {
    switch (weight_type) {
      case DType::bf16:
        return to_float(static_cast<const bf16*>(weights)[index]);
      case DType::f16:
        return to_float(static_cast<const f16*>(weights)[index]);
      default:
        return static_cast<const float*>(weights)[index];
    }
  }
};

}  // namespace comet
