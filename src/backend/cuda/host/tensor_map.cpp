// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/tensor_map.hpp"

#include "backend/cuda/host/cuda_error.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode find_encode() {
  constexpr unsigned kCuda12 = 12000;  // the release that has it
  void* symbol = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol,
                                                              kCuda12, cudaEnableDefault, &found);
  check(status == cudaSuccess && found == cudaDriverEntryPointSuccess, ErrorCode::unsupported,
        "[cuda] no driver of CUDA 12 or later with tensor maps on this machine");
  return reinterpret_cast<Encode>(symbol);
}

}  // namespace

CUtensorMap make_operand_map(const MatrixSpan& matrix, int box_rows) {
  static const Encode encode = find_encode();
  constexpr cuuint32_t kBoxColumns = 64;  // 128 bytes, one swizzle row
  CUtensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(matrix.cols),
                              static_cast<cuuint64_t>(matrix.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(matrix.row_stride) * 2};
  const cuuint32_t box[] = {kBoxColumns, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t element_strides[] = {1, 1};
  const CUresult result = encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(matrix.data), sizes, strides,
      box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(result == CUDA_SUCCESS, ErrorCode::invalid_argument,
        "[cuda] the driver refuses a tensor map of [{}, {}] with row stride {} (error {}): the "
        "address must be a multiple of 16 bytes and the stride one of 8 elements",
        matrix.rows, matrix.cols, matrix.row_stride, static_cast<int>(result));
  return map;
}

}  // namespace comet::cuda
