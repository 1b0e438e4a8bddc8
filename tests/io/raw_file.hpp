// SPDX-License-Identifier: Apache-2.0
// Safetensors files made byte by byte, so that they can be wrong in any way.
#pragma once

#include <cstdint>
#include <string>

namespace comet {

/// An 8-byte length, `header` and `data_bytes` bytes of data (0, 1, 2, ...).
inline std::string raw_file(std::uint64_t header_length, const std::string& header,
                            std::size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>((header_length >> (8 * i)) & 0xff);
  file += header;
  for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i & 0xff);
  return file;
}

inline std::string raw_file(const std::string& header, std::size_t data_bytes) {
  return raw_file(header.size(), header, data_bytes);
}

}  // namespace comet
