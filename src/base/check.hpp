// SPDX-License-Identifier: Apache-2.0
// The CHECK family: how the library reports what is wrong, as Error with a whole sentence.
#pragma once

#include <fmt/core.h>

#include <utility>

#include "comet/error.hpp"

namespace comet {

/// Throws Error(code) with a formatted sentence.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws Error(code) with a formatted sentence unless `condition` holds. The arguments are
/// evaluated in any case, so keep them cheap.
template <typename... Args>
void check(bool condition, ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(code, format, std::forward<Args>(args)...);
}

/// An invariant of Comet itself.
template <typename... Args>
void check_internal(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(ErrorCode::internal, format, std::forward<Args>(args)...);
}

}  // namespace comet
