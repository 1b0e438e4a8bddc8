// SPDX-License-Identifier: Apache-2.0
// Pairs of float16 of CUDA's header, by the library's own conversions.
#pragma once

#include "comet/dtype.hpp"

using __half = comet::f16;
struct __half2 {
  __half x, y;
};
inline __half2 __floats2half2_rn(float low, float high) {
  return {comet::to_f16(low), comet::to_f16(high)};
}
