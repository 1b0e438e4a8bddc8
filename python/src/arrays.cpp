// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "comet/error.hpp"

namespace comet::python {
namespace {

template <typename... Args>
[[noreturn]] void refuse(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, "[array] " + fmt::format(text, std::forward<Args>(args)...));
}

bool is(const ConstArray& array, nb::dlpack::dtype_code code, int bits) {
  return array.dtype().code == static_cast<std::uint8_t>(code) && array.dtype().bits == bits &&
         array.dtype().lanes == 1;
}

std::string shape_text(const ConstArray& array) {
  std::vector<std::size_t> shape;
  for (std::size_t i = 0; i < array.ndim(); ++i) shape.push_back(array.shape(i));
  return fmt::format("({})", fmt::join(shape, ", "));
}

// Rows one after the other; of one row or none any stride will do.
void check_dense(const ConstArray& array, std::string_view name) {
  check_shape(array, name, 2);
  const auto cols = static_cast<std::int64_t>(array.shape(1));
  if (array.shape(0) > 1 && cols > 0 && array.stride(0) != cols) {
    refuse(ErrorCode::invalid_argument, "{}: rows {} elements apart, {} in a dense array", name,
           array.stride(0), cols);
  }
}

// From one row's start to the next one's.
template <typename View>
std::int64_t row_bytes(const View& matrix) {
  return matrix.row_stride * static_cast<std::int64_t>(size_of(matrix.dtype));
}

}  // namespace

DType dtype_of(const ConstArray& array, std::string_view name) {
  using nb::dlpack::dtype_code;
  if (is(array, dtype_code::Float, 32)) return DType::f32;
  if (is(array, dtype_code::Bfloat, 16)) return DType::bf16;
  if (is(array, dtype_code::Float, 16)) return DType::f16;
  refuse(ErrorCode::invalid_argument,
         "{}: elements of DLPack type {} with {} bits, allowed are float32, bfloat16 and float16",
         name, array.dtype().code, array.dtype().bits);
}

void check_on_cpu(const ConstArray& array, std::string_view name) {
  if (array.device_type() != nb::device::cpu::value) {
    refuse(ErrorCode::unsupported,
           "{}: lies on DLPack device {}, this package computes in host memory", name,
           array.device_type());
  }
}

void check_shape(const ConstArray& array, std::string_view name, std::size_t axes) {
  check_on_cpu(array, name);
  if (array.ndim() != axes) {
    refuse(ErrorCode::invalid_argument, "{}: shape {}, {} axes are needed", name, shape_text(array),
           axes);
  }
  if (array.size() > 0 && array.shape(axes - 1) > 1 && array.stride(axes - 1) != 1) {
    refuse(ErrorCode::invalid_argument, "{}: elements of a row are {} apart, 1 is needed", name,
           array.stride(axes - 1));
  }
}

ConstMatrixView matrix_of(const ConstArray& array, std::string_view name) {
  check_shape(array, name, 2);
  const auto rows = static_cast<std::int64_t>(array.shape(0));
  const auto cols = static_cast<std::int64_t>(array.shape(1));
  const std::int64_t stride = rows > 1 ? array.stride(0) : cols;
  if (stride < cols) {
    refuse(ErrorCode::invalid_argument, "{}: rows {} elements apart, at least {} are needed", name,
           stride, cols);
  }
  return {array.data(), rows, cols, stride, dtype_of(array, name)};
}

RoutingView ids_of(const ConstArray& ids) {
  check_dense(ids, "topk_ids");
  const bool is_32 = is(ids, nb::dlpack::dtype_code::Int, 32);
  if (!is_32 && !is(ids, nb::dlpack::dtype_code::Int, 64)) {
    refuse(ErrorCode::invalid_argument,
           "topk_ids: elements of DLPack type {} with {} bits, allowed are int32 and int64",
           ids.dtype().code, ids.dtype().bits);
  }
  return {.ids = ids.data(),
          .tokens = static_cast<std::int64_t>(ids.shape(0)),
          .id_type = is_32 ? IdType::i32 : IdType::i64};
}

RoutingView routing_of(const ConstArray& ids, const ConstArray& weights) {
  RoutingView routing = ids_of(ids);
  check_dense(weights, "topk_weights");
  if (!is(weights, nb::dlpack::dtype_code::Float, 32)) {
    refuse(ErrorCode::invalid_argument,
           "topk_weights: elements of DLPack type {} with {} bits, float32 is needed",
           weights.dtype().code, weights.dtype().bits);
  }
  if (weights.shape(0) != ids.shape(0) || weights.shape(1) != ids.shape(1)) {
    refuse(ErrorCode::invalid_argument, "topk_weights: shape {}, topk_ids has {}",
           shape_text(weights), shape_text(ids));
  }
  routing.weights = static_cast<const float*>(weights.data());
  return routing;
}

RoutingView rows_of(const RoutingView& routing, std::int64_t topk, std::int64_t begin,
                    std::int64_t end) {
  RoutingView rows = routing;
  const std::int64_t bytes = routing.id_type == IdType::i32 ? 4 : 8;
  if (rows.ids != nullptr) {
    rows.ids = static_cast<const std::byte*>(routing.ids) + begin * topk * bytes;
  }
  if (rows.weights != nullptr) rows.weights += begin * topk;
  rows.tokens = end - begin;
  return rows;
}

ConstMatrixView rows_of(const ConstMatrixView& matrix, std::int64_t begin, std::int64_t end) {
  ConstMatrixView rows = matrix;
  if (rows.data != nullptr) {
    rows.data = static_cast<const std::byte*>(matrix.data) + begin * row_bytes(matrix);
  }
  rows.rows = end - begin;
  return rows;
}

MatrixView rows_of(const MatrixView& matrix, std::int64_t begin, std::int64_t end) {
  MatrixView rows = matrix;
  if (rows.data != nullptr) {
    rows.data = static_cast<std::byte*>(matrix.data) + begin * row_bytes(matrix);
  }
  rows.rows = end - begin;
  return rows;
}

}  // namespace comet::python
