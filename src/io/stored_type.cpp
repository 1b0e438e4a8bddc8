// SPDX-License-Identifier: Apache-2.0
// Names and sizes of the element types of a safetensors file.
#include "base/check.hpp"
#include "base/name_table.hpp"
#include "io/json.hpp"
#include "io/safetensors.hpp"

namespace comet {
namespace {

constexpr NameTable<StoredType, 20> kStoredTypes{{
    {StoredType::boolean, "BOOL"},    {StoredType::u8, "U8"},
    {StoredType::i8, "I8"},           {StoredType::f4, "F4"},
    {StoredType::f6_e2m3, "F6_E2M3"}, {StoredType::f6_e3m2, "F6_E3M2"},
    {StoredType::f8_e5m2, "F8_E5M2"}, {StoredType::f8_e4m3, "F8_E4M3"},
    {StoredType::f8_e8m0, "F8_E8M0"}, {StoredType::i16, "I16"},
    {StoredType::u16, "U16"},         {StoredType::f16, "F16"},
    {StoredType::bf16, "BF16"},       {StoredType::i32, "I32"},
    {StoredType::u32, "U32"},         {StoredType::f32, "F32"},
    {StoredType::c64, "C64"},         {StoredType::f64, "F64"},
    {StoredType::i64, "I64"},         {StoredType::u64, "U64"},
}};

}  // namespace

std::string_view to_string(StoredType type) noexcept { return name_of(kStoredTypes, type); }

StoredType parse_stored_type(std::string_view name) {
  std::string known;
  for (const auto& [type, type_name] : kStoredTypes) {
    if (type_name == name) return type;
    known += known.empty() ? "" : ", ";
    known += type_name;
  }
  fail(ErrorCode::format, "[safetensors] dtype {}: one of {}", quote_text(name), known);
}

int bits_of(StoredType type) noexcept {
  switch (type) {
    case StoredType::f4:
      return 4;
    case StoredType::f6_e2m3:
    case StoredType::f6_e3m2:
      return 6;
    case StoredType::boolean:
    case StoredType::u8:
    case StoredType::i8:
    case StoredType::f8_e5m2:
    case StoredType::f8_e4m3:
    case StoredType::f8_e8m0:
      return 8;
    case StoredType::i16:
    case StoredType::u16:
    case StoredType::f16:
    case StoredType::bf16:
      return 16;
    case StoredType::i32:
    case StoredType::u32:
    case StoredType::f32:
      return 32;
    case StoredType::c64:
    case StoredType::f64:
    case StoredType::i64:
    case StoredType::u64:
      return 64;
  }
  return 0;
}

StoredType stored_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      break;
    case DType::bf16:
      return StoredType::bf16;
    case DType::f16:
      return StoredType::f16;
  }
  return StoredType::f32;
}

}  // namespace comet
