// SPDX-License-Identifier: Apache-2.0
// Elements of stored tensors as float32, bfloat16, half or int64. Stored data has no alignment, so
// every element is copied out before it is read.
#include <cstring>
#include <type_traits>

#include "base/check.hpp"
#include "base/element.hpp"
#include "io/json.hpp"
#include "io/safetensors.hpp"

namespace comet {
namespace {

template <typename From, typename To>
void convert_run(const std::byte* in, std::int64_t count, To* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value{};
    std::memcpy(&value, in + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    if constexpr (std::is_same_v<To, From>) {
      out[i] = value;  // the same bits, also of a NaN
    } else if constexpr (std::is_same_v<To, std::int64_t>) {
      out[i] = value;
    } else if constexpr (std::is_arithmetic_v<From>) {
      out[i] = from_float<To>(static_cast<float>(static_cast<double>(value)));
    } else {
      out[i] = from_float<To>(to_float(value));
    }
  }
}

template <typename To>
void convert_floats(const StoredTensor& tensor, std::int64_t first, std::int64_t count, To* out) {
  const std::byte* in = tensor.data + first * (bits_of(tensor.type) / 8);
  switch (tensor.type) {
    case StoredType::f32:
      return convert_run<float>(in, count, out);
    case StoredType::bf16:
      return convert_run<bf16>(in, count, out);
    case StoredType::f16:
      return convert_run<f16>(in, count, out);
    case StoredType::f64:
      return convert_run<double>(in, count, out);
    default:
      fail(ErrorCode::unsupported,
           "[safetensors] tensor {} has dtype {}: only F32, BF16, F16 and F64 convert to floats",
           quote_text(tensor.name), to_string(tensor.type));
  }
}

}  // namespace

void convert_elements(const StoredTensor& tensor, std::int64_t first, std::int64_t count,
                      DType dtype, void* out) {
  check(first >= 0 && count >= 0 && first <= tensor.num_elements &&
            count <= tensor.num_elements - first,
        ErrorCode::out_of_range, "[safetensors] tensor {}: elements {} + {} of {}",
        quote_text(tensor.name), first, count, tensor.num_elements);
  dispatch(dtype,
           [&]<typename T>() { convert_floats(tensor, first, count, static_cast<T*>(out)); });
}

std::vector<float> to_float32(const StoredTensor& tensor) {
  std::vector<float> result(static_cast<std::size_t>(tensor.num_elements));
  convert_elements(tensor, 0, tensor.num_elements, DType::f32, result.data());
  return result;
}

std::vector<bf16> to_bfloat16(const StoredTensor& tensor) {
  std::vector<bf16> result(static_cast<std::size_t>(tensor.num_elements));
  convert_elements(tensor, 0, tensor.num_elements, DType::bf16, result.data());
  return result;
}

std::vector<std::int64_t> to_int64(const StoredTensor& tensor) {
  std::vector<std::int64_t> result(static_cast<std::size_t>(tensor.num_elements));
  const std::int64_t count = tensor.num_elements;
  switch (tensor.type) {
    case StoredType::i64:
      convert_run<std::int64_t>(tensor.data, count, result.data());
      break;
    case StoredType::i32:
      convert_run<std::int32_t>(tensor.data, count, result.data());
      break;
    case StoredType::u32:
      convert_run<std::uint32_t>(tensor.data, count, result.data());
      break;
    case StoredType::i16:
      convert_run<std::int16_t>(tensor.data, count, result.data());
      break;
    case StoredType::u16:
      convert_run<std::uint16_t>(tensor.data, count, result.data());
      break;
    case StoredType::i8:
      convert_run<std::int8_t>(tensor.data, count, result.data());
      break;
    case StoredType::u8:
      convert_run<std::uint8_t>(tensor.data, count, result.data());
      break;
    default:
      fail(ErrorCode::unsupported, "[safetensors] tensor {} has dtype {}, which is no integer",
           quote_text(tensor.name), to_string(tensor.type));
  }
  return result;
}

}  // namespace comet
