// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file, read as a stream of events: a hostile header of 100 MB
// must not grow into gigabytes of JSON values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "comet/error.hpp"
#include "io/safetensors.hpp"

namespace comet {

/// Most dimensions of a tensor.
inline constexpr std::size_t kMaxTensorRank = 32;

/// One tensor as the header describes it; sizes are not yet checked against each other.
struct HeaderEntry {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;  ///< data_offsets, bytes from the start of the data.
};

struct Header {
  std::vector<HeaderEntry> entries;  ///< In the order of the text; names may still repeat.
  std::map<std::string, std::string> metadata;
};

/// Throws Error(format) naming `source` and the tensor if the text is not a header.
Header parse_header(std::string_view text, const std::string& source);

/// Elements and bytes of a shape; throws Error(code) starting with `context` if either overflows
/// 63 bits or the elements do not fill whole bytes.
struct TensorSize {
  std::int64_t elements = 0, bytes = 0;
};
TensorSize tensor_size(StoredType type, const std::vector<std::int64_t>& shape, ErrorCode code,
                       const std::string& context);

}  // namespace comet
