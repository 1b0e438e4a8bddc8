// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/error.hpp"

namespace comet::python {
namespace {

template <typename... Args>
[[noreturn]] void refuse(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, "[array] " + fmt::format(text, std::forward<Args>(args)...));
}

bool is(const Array& array, nb::dlpack::dtype_code code, int bits) {
  return array.type().code == static_cast<std::uint8_t>(code) && array.type().bits == bits &&
         array.type().lanes == 1;
}

std::string shape_text(const Array& array) {
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < array.axes(); ++i) shape.push_back(array.shape(i));
  return fmt::format("({})", fmt::join(shape, ", "));
}

// The elements' type as NumPy and PyTorch call it, where they have one.
std::string type_text(const Array& array) {
  constexpr std::array<std::string_view, 7> kNames = {"int",    "uint",    "float", "opaque",
                                                      "bfloat", "complex", "bool"};
  const auto [code, bits, lanes] = array.type();
  if (code >= kNames.size() || lanes != 1) {
    return fmt::format("DLPack type {} with {} x {} bits", code, lanes, bits);
  }
  const std::string_view name = kNames[code];
  return name == "bool" ? std::string(name) : fmt::format("{}{}", name, bits);
}

bool is_on_gpu(const Array& array) {
  const auto type = array.device().device_type;
  return type == nb::device::cuda::value || type == nb::device::cuda_managed::value;
}

// Whether NumPy says that bytes of the elements are in another order than this machine's.
bool is_swapped(nb::handle array) {
  const nb::object dtype = nb::getattr(array, "dtype", nb::none());
  return nb::getattr(dtype, "isnative", nb::none()).ptr() == Py_False;
}

// Passes on what the array's library raised; errors of PyTorch show its stack in the lines below
// the first.
[[noreturn]] void refuse_by_library(const nb::python_error& error, const char* name) {
  const std::string text = nb::str(error.value()).c_str();
  refuse(ErrorCode::invalid_argument, "{}: its library does not hand out its memory: {}", name,
         text.substr(0, text.find('\n')));
}

// Says why nothing can be read from the object, or written to it.
[[noreturn]] void refuse_object(nb::handle object, const char* name, Use use) {
  nb::ndarray<nb::ro> readable;
  if (use == Use::write && nb::try_cast(object, readable, false)) {
    refuse(ErrorCode::invalid_argument, "{}: it is read-only, an array to write to is needed",
           name);
  }
  if (is_swapped(object)) {
    refuse(ErrorCode::invalid_argument, "{}: its elements are not in this machine's byte order",
           name);
  }
  try {
    if (nb::hasattr(object, "__dlpack__")) object.attr("__dlpack__")();
  } catch (const nb::python_error& error) {
    refuse_by_library(error, name);
  }
  refuse(ErrorCode::invalid_argument, "{}: {}, an array {}is needed that speaks DLPack", name,
         nb::type_name(object.type()).c_str(), use == Use::write ? "to write to " : "");
}

void check_dense(const Array& array) {
  check_shape(array, 2);
  if (!is_dense(array)) {
    refuse(ErrorCode::invalid_argument, "{}: rows {} elements apart, {} in a dense array",
           array.name(), array.stride(0), array.shape(1));
  }
}

// From one row's start to the next one's.
template <typename View>
std::int64_t row_bytes(const View& matrix) {
  return matrix.row_stride * static_cast<std::int64_t>(size_of(matrix.dtype));
}

}  // namespace

Array::Array(nb::handle array, const char* name, Use use) : name_(name) {
  table_ = exchange_table(array);
  if (table_ != nullptr && use != Use::keep) {
    if (table_->describe(array.ptr(), &tensor_) != 0) refuse_by_library(nb::python_error(), name);
    if (tensor_.data == nullptr && !is_empty()) {
      refuse(ErrorCode::invalid_argument, "{}: its memory is not there", name);
    }
    return;
  }
  nb::ndarray<> writable;
  const bool is_array =
      use == Use::write ? nb::try_cast(array, writable, false) : nb::try_cast(array, owner_, false);
  if (!is_array) refuse_object(array, name, use);
  if (use == Use::write) owner_ = nb::ndarray<nb::ro>(writable);
  tensor_.data = const_cast<void*>(owner_.data());
  tensor_.device = {owner_.device_type(), owner_.device_id()};
  tensor_.ndim = static_cast<std::int32_t>(owner_.ndim());
  tensor_.dtype = owner_.dtype();
  tensor_.shape = const_cast<std::int64_t*>(owner_.shape_ptr());
  tensor_.strides = const_cast<std::int64_t*>(owner_.stride_ptr());
}

std::int64_t Array::stride(std::size_t axis) const noexcept {
  if (tensor_.strides != nullptr) return tensor_.strides[axis];
  std::int64_t elements = 1;
  for (std::size_t i = axes(); i-- > axis + 1;) elements *= shape(i);
  return elements;
}

bool Array::is_empty() const noexcept {
  return std::any_of(tensor_.shape, tensor_.shape + axes(),
                     [](std::int64_t length) { return length == 0; });
}

void* Array::stream() const {
  // CUDA's name for the default stream, since null is the rank's own for the library.
  const auto legacy = std::uintptr_t{1};
  if (table_ == nullptr || table_->current_stream == nullptr) {
    refuse(ErrorCode::unsupported,
           "{}: its library does not tell its stream by DLPack's C exchange table, as PyTorch does "
           "from 2.10 on",
           name_);
  }
  void* stream = nullptr;
  if (table_->current_stream(nb::device::cuda::value, device().device_id, &stream) != 0) {
    nb::raise_python_error();
  }
  return stream != nullptr ? stream : std::bit_cast<void*>(legacy);
}

// `allowed` is told where it has none that is known.
DType dtype_of(const Array& array, std::string_view allowed) {
  using nb::dlpack::dtype_code;
  if (is(array, dtype_code::Float, 32)) return DType::f32;
  if (is(array, dtype_code::Bfloat, 16)) return DType::bf16;
  if (is(array, dtype_code::Float, 16)) return DType::f16;
  refuse(ErrorCode::invalid_argument, "{}: elements are {}, allowed are {}", array.name(),
         type_text(array), allowed);
}

DType dtype_of(const Array& array) {
  return dtype_of(array, is_on_gpu(array) ? "bfloat16 and float16" : "float32 and bfloat16");
}

void check_place(const Array& array, const Place& place) {
  const auto text = [](bool is_cuda, int device) {
    return is_cuda ? fmt::format("GPU {}", device) : std::string("the host");
  };
  const auto [type, id] = array.device();
  const bool is_on_host = type == nb::device::cpu::value || type == nb::device::cuda_host::value;
  const bool is_there = is_on_gpu(array);
  if (place.is_cuda ? is_there && id == place.device : is_on_host) return;
  refuse(ErrorCode::invalid_argument, "{}: lies on {}, the world computes on {}", array.name(),
         is_there || is_on_host ? text(is_there, id) : fmt::format("DLPack device {}", type),
         text(place.is_cuda, place.device));
}

void check_shape(const Array& array, std::size_t axes) {
  if (array.axes() != axes) {
    refuse(ErrorCode::invalid_argument, "{}: shape {}, {} axes are needed", array.name(),
           shape_text(array), axes);
  }
  if (!array.is_empty() && array.shape(axes - 1) > 1 && array.stride(axes - 1) != 1) {
    refuse(ErrorCode::invalid_argument, "{}: elements of a row are {} apart, 1 is needed",
           array.name(), array.stride(axes - 1));
  }
}

// Of one row any stride will do.
bool is_dense(const Array& array) {
  if (array.axes() != 2) return false;
  if (array.is_empty()) return true;
  const std::int64_t cols = array.shape(1);
  return (cols <= 1 || array.stride(1) == 1) && (array.shape(0) <= 1 || array.stride(0) == cols);
}

ConstMatrixView matrix_of(const Array& array) {
  check_shape(array, 2);
  const std::int64_t rows = array.shape(0);
  const std::int64_t cols = array.shape(1);
  const std::int64_t stride = rows > 1 ? array.stride(0) : cols;
  if (stride < cols) {
    refuse(ErrorCode::invalid_argument, "{}: rows {} elements apart, at least {} are needed",
           array.name(), stride, cols);
  }
  return {array.data(), rows, cols, stride, dtype_of(array)};
}

RoutingView ids_of(const Array& ids) {
  check_dense(ids);
  const bool is_32 = is(ids, nb::dlpack::dtype_code::Int, 32);
  if (!is_32 && !is(ids, nb::dlpack::dtype_code::Int, 64)) {
    refuse(ErrorCode::invalid_argument, "topk_ids: elements are {}, allowed are int32 and int64",
           type_text(ids));
  }
  return {.ids = ids.data(), .tokens = ids.shape(0), .id_type = is_32 ? IdType::i32 : IdType::i64};
}

RoutingView routing_of(const Array& ids, const Array& weights) {
  RoutingView routing = ids_of(ids);
  check_dense(weights);
  if (weights.shape(0) != ids.shape(0) || weights.shape(1) != ids.shape(1)) {
    refuse(ErrorCode::invalid_argument, "topk_weights: shape {}, topk_ids has {}",
           shape_text(weights), shape_text(ids));
  }
  routing.weights = weights.data();
  routing.weight_type = dtype_of(weights, "float32, bfloat16 and float16");
  return routing;
}

MemoryRange range_of(const ConstMatrixView& matrix) {
  const auto* begin = static_cast<const std::byte*>(matrix.data);
  if (matrix.rows == 0) return {begin, begin};
  const std::int64_t elements = (matrix.rows - 1) * matrix.row_stride + matrix.cols;
  return {begin, begin + elements * static_cast<std::int64_t>(size_of(matrix.dtype))};
}

bool do_overlap(const MemoryRange& a, const MemoryRange& b) noexcept {
  return std::less<>()(a.begin, b.end) && std::less<>()(b.begin, a.end);
}

RoutingView rows_of(const RoutingView& routing, std::int64_t topk, std::int64_t begin,
                    std::int64_t end) {
  RoutingView rows = routing;
  const auto move = [skipped = begin * topk](const void* array, std::int64_t bytes) {
    return array == nullptr ? nullptr : static_cast<const std::byte*>(array) + skipped * bytes;
  };
  rows.ids = move(routing.ids, routing.id_type == IdType::i32 ? 4 : 8);
  rows.weights = move(routing.weights, static_cast<std::int64_t>(size_of(routing.weight_type)));
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
