// SPDX-License-Identifier: Apache-2.0
// What the kinds of trace events have in common and how they are shown.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "comet/trace.hpp"

namespace comet {

inline constexpr std::size_t kNumTraceKinds = 13;

/// What kinds are summed up as.
enum class TraceClass : std::uint8_t {
  compute,  ///< The two GEMMs.
  copy,     ///< Moving and summing tokens.
  plan,     ///< Exchanging metadata and planning.
  wait,     ///< Nothing to do.
  link,     ///< A transfer; no worker's time.
};
inline constexpr std::size_t kNumTraceClasses = 5;

/// Lower-case name, for example "compute".
std::string_view to_string(TraceClass value) noexcept;

struct KindStyle {
  TraceKind kind = TraceKind::wait;
  TraceClass of = TraceClass::wait;
  std::string_view label;   ///< For a legend.
  std::string_view colour;  ///< "#rrggbb" of the picture.
  std::string_view cname;   ///< One of the names that chrome://tracing has for its colours.
};

/// All kinds, in the order of a legend.
const std::array<KindStyle, kNumTraceKinds>& kind_styles() noexcept;
const KindStyle& style_of(TraceKind kind) noexcept;

}  // namespace comet
