// SPDX-License-Identifier: Apache-2.0
// Whole numbers as people write them in flags.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace comet::cli {

/// All of `text` as a whole number, in decimal; nothing if it is none, has a blank or a plus beside
/// it, or does not fit `T`.
template <typename T>
std::optional<T> whole_number(std::string_view text) noexcept {
  T value{};
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, value);
  if (error != std::errc() || end != text_end) return std::nullopt;
  return value;
}

}  // namespace comet::cli
