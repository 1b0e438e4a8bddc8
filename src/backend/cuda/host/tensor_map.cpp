// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/tensor_map.hpp"

#include "backend/cuda/host/driver.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

}  // namespace

CUtensorMap make_operand_map(const MatrixSpan& matrix, DType dtype, int box_rows) {
  check(dtype == DType::bf16 || dtype == DType::f16, ErrorCode::invalid_argument,
        "[cuda] a tensor map of {}: allowed are bf16 and f16", to_string(dtype));
  static const auto encode =
      reinterpret_cast<Encode>(find_driver_function("cuTensorMapEncodeTiled", 12000));
  constexpr cuuint32_t kBoxColumns = 64;  // 128 bytes, one swizzle row
  CUtensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(matrix.cols),
                              static_cast<cuuint64_t>(matrix.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(matrix.row_stride) * 2};
  const cuuint32_t box[] = {kBoxColumns, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t element_strides[] = {1, 1};
  const CUtensorMapDataType type =
      dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUresult result =
      encode(&map, type, 2, const_cast<void*>(matrix.data), sizes, strides, box, element_strides,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(result == CUDA_SUCCESS, ErrorCode::invalid_argument,
        "[cuda] the driver refuses a tensor map of [{}, {}] with row stride {} (error {}): the "
        "address must be a multiple of 16 bytes and the stride one of 8 elements",
        matrix.rows, matrix.cols, matrix.row_stride, static_cast<int>(result));
  return map;
}

}  // namespace comet::cuda
