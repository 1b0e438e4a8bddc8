// SPDX-License-Identifier: Apache-2.0
// One table per enum gives its names for printing and parsing, so the two cannot drift apart.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.hpp"

namespace comet {

template <typename E, std::size_t N>
using NameTable = std::array<std::pair<E, std::string_view>, N>;

/// The name of `value`; "?" if the table lacks it, which a test of the table excludes.
template <typename E, std::size_t N>
constexpr std::string_view name_of(const NameTable<E, N>& table, E value) noexcept {
  for (const auto& [entry, name] : table) {
    if (entry == value) return name;
  }
  return "?";
}

/// The value named `name`; throws Error(invalid_argument) "[what] ...: one of a, b, c".
template <typename E, std::size_t N>
E parse_name(const NameTable<E, N>& table, std::string_view what, std::string_view name) {
  std::string allowed;
  for (const auto& [entry, entry_name] : table) {
    if (entry_name == name) return entry;
    if (!allowed.empty()) allowed += ", ";
    allowed += entry_name;
  }
  fail(ErrorCode::invalid_argument, "[{}] unknown name '{}': one of {}", what, name, allowed);
}

}  // namespace comet
