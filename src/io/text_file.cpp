// SPDX-License-Identifier: Apache-2.0
#include "io/text_file.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "base/check.hpp"

namespace comet {

std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes) {
  std::error_code status_error;
  const bool regular = std::filesystem::is_regular_file(path, status_error);
  check(regular, ErrorCode::io, "[file] cannot read '{}': {}", path.string(),
        status_error ? status_error.message() : "it is not a regular file");
  std::ifstream file(path, std::ios::binary);
  check(file.is_open(), ErrorCode::io, "[file] cannot open '{}': {}", path.string(),
        std::strerror(errno));
  std::string text;
  std::string piece(std::size_t{1} << 16, '\0');
  while (file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    text.append(piece, 0, static_cast<std::size_t>(file.gcount()));
    check(text.size() <= max_bytes, ErrorCode::format,
          "[file] '{}' is longer than {} bytes, the most for this kind of file", path.string(),
          max_bytes);
  }
  check(!file.bad(), ErrorCode::io, "[file] cannot read '{}': {}", path.string(),
        std::strerror(errno));
  return text;
}

}  // namespace comet
