// SPDX-License-Identifier: Apache-2.0
// Pairs of bfloat16 of CUDA's header, by the library's own conversions.
#pragma once

#include "comet/dtype.hpp"

using __nv_bfloat16 = comet::bf16;
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {comet::to_bf16(low), comet::to_bf16(high)};
}
