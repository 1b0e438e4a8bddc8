// SPDX-License-Identifier: Apache-2.0
// Numbers as people write them in flags, variables and names.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace comet {

/// All of `text` as a number in decimal (of a floating-point type also 1e3, inf and nan); nothing
/// if it is none, has a blank or a plus beside it, or does not fit `T`.
template <typename T>
std::optional<T> read_number(std::string_view text) noexcept {
  T value{};
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, value);
  if (error != std::errc() || end != text_end) return std::nullopt;
  return value;
}

}  // namespace comet
