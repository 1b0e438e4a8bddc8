// SPDX-License-Identifier: Apache-2.0
// Safetensors files, in and out: an 8-byte little-endian header length, a JSON header
// {name: {dtype, shape, data_offsets}, "__metadata__": {...}}, then the tensors' bytes. Everything
// in a file is checked before any of it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/dtype.hpp"

namespace comet {

/// Element types that the format knows. Comet computes with f32, bf16 and f16 and reads integer
/// ids; the others can be listed and copied as bytes.
enum class StoredType : std::uint8_t {
  boolean,
  u8,
  i8,
  f4,
  f6_e2m3,
  f6_e3m2,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

/// The name in the header, for example "BF16".
std::string_view to_string(StoredType type) noexcept;
/// Parses what to_string gives; throws Error(format) with what is known.
StoredType parse_stored_type(std::string_view name);
/// Bits of one element: 4 to 64.
int bits_of(StoredType type) noexcept;
/// The stored type that has the layout of `dtype`.
StoredType stored_type(DType dtype) noexcept;

/// A tensor inside a file, row-major. `data` is borrowed from the file's mapping and has no
/// particular alignment: use the conversions below, or memcpy.
struct StoredTensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<std::int64_t> shape;  ///< Empty for a scalar; a dimension may be 0.
  std::int64_t num_elements = 0;
  const std::byte* data = nullptr;  ///< Not null, also if the tensor is empty.
  std::size_t bytes = 0;
};

/// A checked file, or a checked buffer. Movable; tensors are valid until it is destroyed.
class SafetensorsFile {
 public:
  /// Largest header that is read, in bytes. The format's own limit.
  static constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

  /// Maps a file read-only. Throws Error(io) if the system refuses and Error(format) naming the
  /// file and the tensor if anything in it is wrong. The file must not be shortened while open.
  static SafetensorsFile open(const std::filesystem::path& path);

  /// The same checks on `bytes` bytes at `data`, which are borrowed. `source` names them in errors.
  static SafetensorsFile parse(const void* data, std::size_t bytes, std::string source = "memory");

  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;
  ~SafetensorsFile();

  /// All tensors, in the order of their data.
  const std::vector<StoredTensor>& tensors() const noexcept { return tensors_; }
  /// The tensor, or null.
  const StoredTensor* find(std::string_view name) const noexcept;
  /// The tensor; throws Error(format) naming the file and the tensor if there is none.
  const StoredTensor& tensor(std::string_view name) const;
  /// The header's "__metadata__".
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  /// Path of the file, or the buffer's source.
  const std::string& source() const noexcept { return source_; }

 private:
  class Mapping;

  SafetensorsFile();
  void read(const std::byte* data, std::size_t bytes);

  std::string source_;
  std::unique_ptr<Mapping> mapping_;  // null for a borrowed buffer
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// Elements [first, first + count) of a F32, BF16, F16 or F64 tensor, rounded to `dtype` at `out`;
/// what is beyond the range of `dtype` becomes infinity.
/// Throws Error(unsupported) for other types and Error(out_of_range) for elements outside.
void convert_elements(const StoredTensor& tensor, std::int64_t first, std::int64_t count,
                      DType dtype, void* out);
/// The whole tensor as float32, by convert_elements.
std::vector<float> to_float32(const StoredTensor& tensor);
/// The whole tensor as bfloat16, by convert_elements.
std::vector<bf16> to_bfloat16(const StoredTensor& tensor);
/// An I64, I32, U32, I16, U16, I8 or U8 tensor; Error(unsupported) for other types.
std::vector<std::int64_t> to_int64(const StoredTensor& tensor);

/// A tensor to be written: dense, row-major, in the memory of the caller.
struct TensorToWrite {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;  ///< May be null if the tensor has no elements.
};

/// Writes `path` by way of "<path>.tmp.<pid>", fsync and rename: a reader sees the old file or the
/// new one, never half a file. Throws Error(invalid_argument) for names that occur twice, shapes
/// that overflow or missing data, and Error(io) if the system refuses; then `path` is as before.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace comet
