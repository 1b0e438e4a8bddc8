// SPDX-License-Identifier: Apache-2.0
// Any text as a config.json: refused with an Error, or a description that the library accepts.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "comet/error.hpp"
#include "models/hf_config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  comet::HfMoeConfig config;
  try {
    config = comet::parse_hf_config({reinterpret_cast<const char*>(data), size}, "fuzzed");
  } catch (const comet::Error& error) {
    const bool expected =
        error.code() == comet::ErrorCode::format || error.code() == comet::ErrorCode::unsupported;
    if (!expected) std::abort();
    return 0;
  }
  // What was accepted must be usable: these throw if it is not, and nothing catches that here.
  comet::validate(config.desc, comet::ParallelDesc{});
  comet::validate(config.router);
  for (std::int64_t layer = 0; layer < 4; ++layer) config.is_moe_layer(layer);
  return 0;
}
