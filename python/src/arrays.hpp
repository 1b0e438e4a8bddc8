// SPDX-License-Identifier: Apache-2.0
// Arrays of Python, of any library that speaks DLPack, as the views of the C++ library. What does
// not fit is an Error that names the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>

#include "comet/routing.hpp"
#include "comet/tensor_view.hpp"
#include "exchange.hpp"

namespace comet::python {

namespace nb = nanobind;

/// What becomes of an array.
enum class Use : std::uint8_t {
  read,   ///< Read during a call.
  write,  ///< Written during a call.
  keep,   ///< Read after it too: the array is kept alive.
};

/// Where an array lies and what it holds. Unless it is kept, the caller of a call keeps it alive.
class Array {
 public:
  /// Throws Error(invalid_argument) if `array` is none, or cannot be used so. `name` is the
  /// argument's and lives as long as this.
  Array(nb::handle array, const char* name, Use use);

  const char* name() const noexcept { return name_; }
  std::size_t axes() const noexcept { return static_cast<std::size_t>(tensor_.ndim); }
  std::int64_t shape(std::size_t axis) const noexcept { return tensor_.shape[axis]; }
  std::int64_t stride(std::size_t axis) const noexcept;  ///< In elements.
  void* data() const noexcept {
    return static_cast<std::byte*>(tensor_.data) + tensor_.byte_offset;
  }
  nb::dlpack::dtype type() const noexcept { return tensor_.dtype; }
  nb::dlpack::device device() const noexcept { return tensor_.device; }
  bool is_empty() const noexcept;
  /// cuda: the cudaStream_t that the caller's work on the array's GPU is queued on, never null.
  /// Throws Error(unsupported) if the array's library has no exchange table.
  void* stream() const;

 private:
  const char* name_;
  nb::dlpack::dltensor tensor_;
  const ExchangeTable* table_ = nullptr;  // of the array's library
  nb::ndarray<nb::ro> owner_;             // empty where the library has an exchange table
};

/// The element type, or Error(invalid_argument).
DType dtype_of(const Array& array);
/// Where a world computes: host memory, or the memory of one GPU.
struct Place {
  bool is_cuda = false;
  int device = 0;  ///< CUDA's number of the GPU.
};

/// Throws Error(invalid_argument) unless the array lies there.
void check_place(const Array& array, const Place& place);
/// Throws unless `axes` many axes, the last one dense.
void check_shape(const Array& array, std::size_t axes);
/// Whether rows lie one after the other.
bool is_dense(const Array& array);

/// A matrix [rows, cols] whose rows may lie apart.
ConstMatrixView matrix_of(const Array& array);

/// Ids int32 or int64 and weights float32, bfloat16 or float16, both dense [rows of ids, topk].
RoutingView routing_of(const Array& ids, const Array& weights);

/// A dense matrix of ids without weights.
RoutingView ids_of(const Array& ids);

/// From a first byte to the one after the last.
struct MemoryRange {
  const std::byte* begin = nullptr;
  const std::byte* end = nullptr;
};

/// Of all elements, with what lies between rows.
MemoryRange range_of(const ConstMatrixView& matrix);
bool do_overlap(const MemoryRange& a, const MemoryRange& b) noexcept;

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
