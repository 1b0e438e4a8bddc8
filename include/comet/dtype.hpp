// SPDX-License-Identifier: Apache-2.0
// Element types of tokens and weights, and the conversions between 16-bit numbers and float.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace comet {

/// Element type of x, y and the weights of a layer, and of routing weights. Sums are always
/// accumulated in float32. Layers on cpu have no f16, but may be routed by such weights.
enum class DType : std::uint8_t { f32, bf16, f16 };

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) noexcept { return dtype == DType::f32 ? 4 : 2; }

/// Distance from 1 to the next representable number, the epsilon of error bounds.
constexpr double epsilon_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      return 0x1p-23;
    case DType::bf16:
      return 0x1p-7;
    case DType::f16:
      return 0x1p-10;
  }
  return 1;
}

/// "f32", "bf16" or "f16"; "?" for no value of DType.
constexpr std::string_view to_string(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
  }
  return "?";
}

/// Parses "f32", "bf16" or "f16"; throws Error(invalid_argument) on anything else.
DType parse_dtype(std::string_view name);

/// The upper half of an IEEE float32.
struct bf16 {
  std::uint16_t bits;  ///< Sign, 8 bits of exponent, 7 of fraction.
};

/// IEEE half: up to 65504, normal from 2^-14, multiples of 2^-24 below.
struct f16 {
  std::uint16_t bits;  ///< Sign, 5 bits of exponent, 10 of fraction.
};

/// The same number as a float; exact.
constexpr float to_float(bf16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// The same number as a float; exact, unless the thread treats float subnormals as zero.
constexpr float to_float(f16 value) noexcept {
  // Moved into place, the exponent is too small by 127 - 15; subnormals become subnormals. No
  // branches: loops over this are vectorised.
  const std::uint32_t magnitude = value.bits & 0x7fffU;
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  const std::uint32_t sign = (value.bits & 0x8000U) << 16;
  const std::uint32_t infinity_or_nan = magnitude >= 0x7c00U ? 0x7f800000U : 0U;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | sign | infinity_or_nan);
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

/// Rounds to nearest, ties to even; from 65520 on to infinity; NaN stays NaN (quiet).
constexpr f16 to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  std::uint32_t half = 0x7c00U;  // infinity
  if (magnitude > 0x7f800000U) {
    half |= 0x200U | ((magnitude >> 13) & 0x3ffU);
  } else if (magnitude < 0x38800000U) {
    // Below 2^-14. The sum's last place is 2^-24, so that the addition rounds.
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
  } else if (magnitude < 0x477ff000U) {
    half = (magnitude - ((127U - 15U) << 23) + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
  }
  return f16{static_cast<std::uint16_t>(sign | half)};
}

/// Rounds `value` to T (float, bf16 or f16).
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
/// to_f16(value).
template <>
constexpr f16 from_float<f16>(float value) noexcept {
  return to_f16(value);
}

}  // namespace comet
