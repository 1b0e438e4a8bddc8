// SPDX-License-Identifier: Apache-2.0
// Elements whose type is known only at run time: the one place that leads from a DType to its C++
// type. Not for inner loops; dispatch outside of those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.hpp"
#include "comet/dtype.hpp"

namespace comet {

/// `body.template operator()<T>()` with T the element type of `dtype`: float, bf16 or f16.
template <typename Body>
decltype(auto) dispatch(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f32:
      return body.template operator()<float>();
    case DType::bf16:
      return body.template operator()<bf16>();
    case DType::f16:
      return body.template operator()<f16>();
  }
  fail(ErrorCode::invalid_argument, "[dtype] no element type has number {}",
       static_cast<int>(dtype));
}

/// Element `index` of `data`, which needs no alignment.
inline float load_element(const void* data, std::int64_t index, DType dtype) {
  return dispatch(dtype, [&]<typename T>() {
    T value{};
    std::memcpy(&value, static_cast<const std::byte*>(data) + index * std::int64_t{sizeof(T)},
                sizeof(T));
    return to_float(value);
  });
}

/// Rounds `value` into element `index` of `data`, which needs no alignment.
inline void store_element(void* data, std::int64_t index, DType dtype, float value) {
  dispatch(dtype, [&]<typename T>() {
    const T rounded = from_float<T>(value);
    std::memcpy(static_cast<std::byte*>(data) + index * std::int64_t{sizeof(T)}, &rounded,
                sizeof(T));
  });
}

}  // namespace comet
