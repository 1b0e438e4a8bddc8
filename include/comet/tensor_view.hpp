// SPDX-License-Identifier: Apache-2.0
// Borrowed views of row-major matrices. Views own nothing: the caller keeps the memory alive and
// unchanged for as long as the call that got the view says.
#pragma once

#include <cstdint>

#include "comet/dtype.hpp"

namespace comet {

/// Read-only row-major matrix [rows, cols]; element (r, c) lies at data + (r * row_stride + c).
struct ConstMatrixView {
  const void* data = nullptr;   ///< May be null only if rows == 0.
  std::int64_t rows = 0;        ///< May be 0.
  std::int64_t cols = 0;        ///< Elements of a row.
  std::int64_t row_stride = 0;  ///< In elements, at least cols.
  DType dtype = DType::f32;     ///< Element type.
};

/// Writable row-major matrix [rows, cols], same layout as ConstMatrixView.
struct MatrixView {
  void* data = nullptr;         ///< May be null only if rows == 0.
  std::int64_t rows = 0;        ///< May be 0.
  std::int64_t cols = 0;        ///< Elements of a row.
  std::int64_t row_stride = 0;  ///< In elements, at least cols.
  DType dtype = DType::f32;     ///< Element type.
};

}  // namespace comet
