// SPDX-License-Identifier: Apache-2.0
// Numbers of bytes as environment variables of other libraries have them.
#pragma once

#include <cstdint>
#include <string_view>

namespace comet {

/// "512", "0.5G" or "64m": a number that one of k, m, g or t, powers of 1024, may follow. 0 for
/// anything else.
std::uint64_t parse_scaled(std::string_view text) noexcept;

}  // namespace comet
