// SPDX-License-Identifier: Apache-2.0
// Small text files, read whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace comet {

/// The whole file. Throws Error(io) if it cannot be read, and Error(format) if it is longer than
/// `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace comet
