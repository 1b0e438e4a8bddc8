// SPDX-License-Identifier: Apache-2.0
// Element types of tokens and weights, and the conversions between bfloat16 and float.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace comet {

/// Element type of x, y and the weights of a layer. Sums are always accumulated in float32.
enum class DType : std::uint8_t { f32, bf16 };

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) noexcept { return dtype == DType::f32 ? 4 : 2; }

/// Distance from 1 to the next representable number, the epsilon of error bounds.
constexpr double epsilon_of(DType dtype) noexcept { return dtype == DType::f32 ? 0x1p-23 : 0x1p-7; }

/// "f32" or "bf16".
constexpr std::string_view to_string(DType dtype) noexcept {
  return dtype == DType::f32 ? "f32" : "bf16";
}

/// Parses "f32" or "bf16"; throws Error(invalid_argument) on anything else.
DType parse_dtype(std::string_view name);

/// The upper half of an IEEE float32.
struct bf16 {
  std::uint16_t bits;  ///< Sign, 8 bits of exponent, 7 of fraction.
};

/// The same number as a float; exact.
constexpr float to_float(bf16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// `value` itself, so that templates need not tell the types apart.
constexpr float to_float(float value) noexcept { return value; }

/// Rounds to nearest, ties to even; NaN stays NaN (quiet).
constexpr bf16 to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return bf16{static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  }
  return bf16{static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

/// Rounds `value` to T (float or bf16).
template <typename T>
constexpr T from_float(float value) noexcept;
/// `value` itself.
template <>
constexpr float from_float<float>(float value) noexcept {
  return value;
}
/// to_bf16(value).
template <>
constexpr bf16 from_float<bf16>(float value) noexcept {
  return to_bf16(value);
}

}  // namespace comet
