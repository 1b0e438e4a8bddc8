// SPDX-License-Identifier: Apache-2.0
// Any text as a model.safetensors.index.json: refused with Error(format), or every shard is a file
// of the same directory.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "comet/error.hpp"
#include "io/checkpoint.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto map = comet::parse_weight_map({reinterpret_cast<const char*>(data), size}, "fuzzed");
    const std::filesystem::path directory = "/checkpoint";
    for (const auto& [name, shard] : map) {
      const std::filesystem::path path = (directory / shard).lexically_normal();
      const bool inside = path.parent_path() == directory && path.filename() == shard &&
                          shard.find('\0') == std::string::npos;
      if (!inside) std::abort();
    }
  } catch (const comet::Error& error) {
    if (error.code() != comet::ErrorCode::format) std::abort();
  }
  return 0;
}
