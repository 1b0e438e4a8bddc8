// SPDX-License-Identifier: Apache-2.0
// Environment variables that make the tests here longer, or other ones.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace comet {

/// The number in the environment variable, or `otherwise` where it is not set.
inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace comet
