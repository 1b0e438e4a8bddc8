// SPDX-License-Identifier: Apache-2.0
// Arrays of Python, of any library that speaks DLPack, as the views of the C++ library. What does
// not fit is an Error that names the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string_view>
#include <vector>

#include "comet/routing.hpp"
#include "comet/tensor_view.hpp"

namespace comet::python {

namespace nb = nanobind;

using ConstArray = nb::ndarray<nb::ro>;
using Array = nb::ndarray<>;

/// The element type, or Error(invalid_argument).
DType dtype_of(const ConstArray& array, std::string_view name);
/// Throws Error(unsupported) unless the array lies in host memory.
void check_on_cpu(const ConstArray& array, std::string_view name);
/// Throws unless `axes` many axes, the last one dense.
void check_shape(const ConstArray& array, std::string_view name, std::size_t axes);

/// A matrix [rows, cols] whose rows may lie apart.
ConstMatrixView matrix_of(const ConstArray& array, std::string_view name);

/// Ids int32 or int64 and weights float32, both dense [rows of ids, topk].
RoutingView routing_of(const ConstArray& ids, const ConstArray& weights);

/// A dense matrix of ids without weights.
RoutingView ids_of(const ConstArray& ids);

/// Rows [begin, end).
RoutingView rows_of(const RoutingView& routing, std::int64_t topk, std::int64_t begin,
                    std::int64_t end);
ConstMatrixView rows_of(const ConstMatrixView& matrix, std::int64_t begin, std::int64_t end);
MatrixView rows_of(const MatrixView& matrix, std::int64_t begin, std::int64_t end);

/// First of `count` that part `part` of `parts` has, which are as equal as can be.
constexpr std::int64_t part_begin(std::int64_t count, int parts, int part) noexcept {
  return count * part / parts;
}

}  // namespace comet::python
