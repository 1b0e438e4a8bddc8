// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file: refused with Error(format), or every tensor lies inside them,
// the tensors fill the data, and each converts to what its type can be.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "comet/error.hpp"
#include "io/safetensors.hpp"

namespace {

using comet::Error;
using comet::ErrorCode;
using comet::StoredTensor;
using comet::StoredType;

void require(bool condition) {
  if (!condition) std::abort();
}

bool is_float(StoredType type) {
  return type == StoredType::f32 || type == StoredType::f64 || type == StoredType::f16 ||
         type == StoredType::bf16;
}

bool is_integer(StoredType type) {
  switch (type) {
    case StoredType::u8:
    case StoredType::i8:
    case StoredType::i16:
    case StoredType::u16:
    case StoredType::i32:
    case StoredType::u32:
    case StoredType::i64:
      return true;
    default:
      return false;
  }
}

// Converts, or throws Error(unsupported), by the type alone.
template <typename Body>
void convert(const StoredTensor& tensor, bool supported, const Body& body) {
  try {
    require(static_cast<std::int64_t>(body(tensor).size()) == tensor.num_elements);
    require(supported);
  } catch (const Error& error) {
    require(!supported && error.code() == ErrorCode::unsupported);
  }
}

void check_tensor(const StoredTensor& tensor) {
  std::int64_t elements = 1;
  for (const std::int64_t dimension : tensor.shape) elements *= dimension;
  require(elements == tensor.num_elements);
  require(elements * bits_of(tensor.type) == static_cast<std::int64_t>(tensor.bytes) * 8);
  convert(tensor, is_float(tensor.type), [](const auto& t) { return comet::to_float32(t); });
  convert(tensor, is_float(tensor.type), [](const auto& t) { return comet::to_bfloat16(t); });
  convert(tensor, is_integer(tensor.type), [](const auto& t) { return comet::to_int64(t); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // An exact copy on the heap, so that AddressSanitizer sees a read of one byte too many.
  const std::vector<std::uint8_t> bytes(data, data + size);
  try {
    const auto file = comet::SafetensorsFile::parse(bytes.data(), bytes.size());
    const auto* end = reinterpret_cast<const std::byte*>(bytes.data()) + bytes.size();
    std::size_t total = 0;
    for (const StoredTensor& tensor : file.tensors()) {
      if (total == 0) require(tensor.data > reinterpret_cast<const std::byte*>(bytes.data()));
      require(tensor.data + tensor.bytes <= end);
      require(file.find(tensor.name) == &tensor);
      check_tensor(tensor);
      total += tensor.bytes;
    }
    if (!file.tensors().empty())
      require(file.tensors().back().data + file.tensors().back().bytes == end);
    require(total < size);
  } catch (const Error& error) {
    require(error.code() == ErrorCode::format);
  }
  return 0;
}
