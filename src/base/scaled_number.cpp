// SPDX-License-Identifier: Apache-2.0
#include "base/scaled_number.hpp"

#include <charconv>
#include <cmath>

namespace comet {

std::uint64_t parse_scaled(std::string_view text) noexcept {
  constexpr std::string_view kUnits = "kKmMgGtT";
  constexpr double kMost = 1e18;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !(number >= 0)) return 0;
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  if (!unit.empty()) {
    const std::size_t place = kUnits.find(unit);
    if (unit.size() != 1 || place == kUnits.npos) return 0;
    number = std::ldexp(number, 10 * (static_cast<int>(place) / 2 + 1));
  }
  return number < kMost ? static_cast<std::uint64_t>(number) : 0;
}

}  // namespace comet
