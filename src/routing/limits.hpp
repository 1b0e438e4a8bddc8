// SPDX-License-Identifier: Apache-2.0
// What every routing of this folder keeps within; the layer's own limits, so that any routing made
// here can be run.
#pragma once

#include <cstdint>

namespace comet {

inline constexpr std::int64_t kMaxRoutedExperts = 65534;
inline constexpr std::int64_t kMaxRoutedTopk = 32;

}  // namespace comet
