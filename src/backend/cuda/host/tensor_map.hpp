// SPDX-License-Identifier: Apache-2.0
// Tensor maps for TMA. The driver's encoder is looked up at run time, so that nothing links
// libcuda.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "comet/dtype.hpp"

namespace comet::cuda {

/// A matrix of 16-bit elements [rows, cols] in device memory, contiguous along cols.
struct MatrixSpan {
  const void* data = nullptr;  ///< Aligned to 16 bytes.
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;  ///< Elements; a multiple of 8.
};

/// Map that loads boxes [box_rows, 64] of `dtype` (bf16 or f16), swizzled by 128 bytes as wgmma
/// reads them. Throws Error(unsupported) where there is no driver, Error(invalid_argument) if it
/// refuses.
CUtensorMap make_operand_map(const MatrixSpan& matrix, DType dtype, int box_rows);

}  // namespace comet::cuda
