// SPDX-License-Identifier: Apache-2.0
// Reading good files: tensors, types, conversions.
#include "io/safetensors.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "io/expect_error.hpp"
#include "io/raw_file.hpp"
#include "io/temp_dir.hpp"

namespace comet {
namespace {

SafetensorsFile parse(const std::string& file) {
  return SafetensorsFile::parse(file.data(), file.size(), "test");
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A file with the one tensor "t" of `count` elements.
template <typename T>
std::string one_tensor(const std::string& type, const std::vector<T>& values) {
  const std::string data = bytes_of(values);
  return raw_file(R"({"t":{"dtype":")" + type + R"(","shape":[)" + std::to_string(values.size()) +
                      R"(],"data_offsets":[0,)" + std::to_string(data.size()) + "]}}",
                  0) +
         data;
}

TEST(Safetensors, ReadsTensorsInOrderOfData) {
  const std::string file = raw_file(R"({"b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},)"
                                    R"("__metadata__":{"format":"pt","note":""},)"
                                    R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}   )",
                                    12);
  const SafetensorsFile parsed = parse(file);
  ASSERT_EQ(parsed.tensors().size(), 2U);
  EXPECT_EQ(parsed.tensors()[0].name, "a");
  const StoredTensor& b = parsed.tensor("b");
  EXPECT_EQ(&b, &parsed.tensors()[1]);
  EXPECT_EQ(b.type, StoredType::f32);
  EXPECT_EQ(b.shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(b.num_elements, 2);
  EXPECT_EQ(b.bytes, 8U);
  EXPECT_EQ(reinterpret_cast<const char*>(b.data), file.data() + file.size() - 8);
  EXPECT_EQ(parsed.find("c"), nullptr);
  EXPECT_EQ(parsed.metadata().at("format"), "pt");
  EXPECT_EQ(parsed.metadata().size(), 2U);
  expect_error(ErrorCode::format, "test has no tensor 'c'", [&] { parsed.tensor("c"); });
}

TEST(Safetensors, ReadsScalarsAndEmptyTensors) {
  const std::string file = raw_file(R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                    R"("none":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},)"
                                    R"("first":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}})",
                                    4);
  const SafetensorsFile parsed = parse(file);
  EXPECT_EQ(parsed.tensor("scalar").num_elements, 1);
  EXPECT_EQ(to_float32(parsed.tensor("none")).size(), 0U);
  EXPECT_NE(parsed.tensor("none").data, nullptr);
  EXPECT_EQ(to_int64(parsed.tensor("first")).size(), 0U);
  EXPECT_TRUE(parse(raw_file("{}", 0)).tensors().empty());
}

TEST(Safetensors, KnowsEveryType) {
  for (int i = 0; i < 20; ++i) {
    const auto type = static_cast<StoredType>(i);
    EXPECT_EQ(parse_stored_type(to_string(type)), type);
    const int bits = bits_of(type);
    const std::string file =
        raw_file(R"({"t":{"dtype":")" + std::string(to_string(type)) +
                     R"(","shape":[4,2],"data_offsets":[0,)" + std::to_string(bits) + "]}}",
                 static_cast<std::size_t>(bits));
    EXPECT_EQ(parse(file).tensor("t").type, type);
  }
  expect_error(ErrorCode::format, "dtype 'F33': one of", [] { parse_stored_type("F33"); });
  EXPECT_EQ(stored_type(DType::f32), StoredType::f32);
  EXPECT_EQ(stored_type(DType::bf16), StoredType::bf16);
  EXPECT_EQ(stored_type(DType::f16), StoredType::f16);
}

TEST(Safetensors, ConvertsFloats) {
  const std::vector<float> values = {0.0F, -0.0F, 1.5F, -3.25F, 1e-40F, 65504.0F, 1.0F / 3.0F};
  const std::string f32 = one_tensor("F32", values);
  const std::string f64 = one_tensor("F64", std::vector<double>(values.begin(), values.end()));
  for (const std::string* file : {&f32, &f64}) {
    const SafetensorsFile parsed = parse(*file);
    const std::vector<float> floats = to_float32(parsed.tensor("t"));
    const std::vector<bf16> halves = to_bfloat16(parsed.tensor("t"));
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(floats[i]), std::bit_cast<std::uint32_t>(values[i]));
      EXPECT_EQ(halves[i].bits, to_bf16(values[i]).bits);
    }
  }
  const std::string bits = one_tensor("BF16", std::vector<std::uint16_t>{0x3fc0, 0xff80, 0x7f81});
  const SafetensorsFile parsed = parse(bits);
  EXPECT_EQ(to_float32(parsed.tensor("t"))[0], 1.5F);
  EXPECT_EQ(to_float32(parsed.tensor("t"))[1], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(to_bfloat16(parsed.tensor("t"))[2].bits, 0x7f81) << "a NaN keeps its bits";
}

// Every one of the 65,536 half-precision values against its definition.
TEST(Safetensors, ConvertsAllHalves) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  const std::string file = one_tensor("F16", bits);
  const SafetensorsFile parsed = parse(file);
  const std::vector<float> floats = to_float32(parsed.tensor("t"));
  for (int i = 0; i < 65536; ++i) {
    const int exponent = (i >> 10) & 31;
    const int fraction = i & 1023;
    const double sign = (i & 0x8000) != 0 ? -1 : 1;
    const float actual = floats[static_cast<std::size_t>(i)];
    if (exponent == 31 && fraction != 0) {
      ASSERT_TRUE(std::isnan(actual)) << i;
      continue;
    }
    const double expected = sign * (exponent == 31  ? std::numeric_limits<double>::infinity()
                                    : exponent == 0 ? std::ldexp(fraction, -24)
                                                    : std::ldexp(1024 + fraction, exponent - 25));
    ASSERT_EQ(static_cast<double>(actual), expected) << i;
    ASSERT_EQ(std::signbit(actual), sign < 0) << i;
  }
}

TEST(Safetensors, ConvertsToHalves) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  std::vector<std::uint16_t> out(bits.size());
  const std::string halves = one_tensor("F16", bits);
  convert_elements(parse(halves).tensor("t"), 0, 65536, DType::f16, out.data());
  EXPECT_EQ(out, bits) << "the same bits, of NaNs too";

  const std::vector<float> values = {1.0F / 3.0F, -0.0F, 0x1.8p-24F, 65519.0F, 65520.0F, -1e-9F};
  const std::vector<std::uint16_t> expected = {0x3555, 0x8000, 2, 0x7bff, 0x7c00, 0x8000};
  const std::string f32 = one_tensor("F32", values);
  const std::string f64 = one_tensor("F64", std::vector<double>(values.begin(), values.end()));
  for (const std::string* file : {&f32, &f64}) {
    out.assign(values.size(), 0);
    convert_elements(parse(*file).tensor("t"), 0, 6, DType::f16, out.data());
    EXPECT_EQ(out, expected);
  }
  const std::string bf16s = one_tensor("BF16", std::vector<std::uint16_t>{0x3fc0, 0x7f00});
  out.assign(2, 0);
  convert_elements(parse(bf16s).tensor("t"), 0, 2, DType::f16, out.data());
  EXPECT_EQ(out, (std::vector<std::uint16_t>{0x3e00, 0x7c00}));
}

TEST(Safetensors, ConvertsRanges) {
  const std::string file = one_tensor("F32", std::vector<float>{1, 2, 3, 4});
  const SafetensorsFile parsed = parse(file);
  const StoredTensor& tensor = parsed.tensor("t");
  float out[2] = {};
  convert_elements(tensor, 2, 2, DType::f32, out);
  EXPECT_EQ(out[0], 3);
  EXPECT_EQ(out[1], 4);
  convert_elements(tensor, 4, 0, DType::f32, out);
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{-1, 1},
                                     {0, 5},
                                     {3, 2},
                                     {5, 0},
                                     {1, huge},
                                     {huge, huge},
                                     {0, -1}}) {
    expect_error(ErrorCode::out_of_range, "of 4",
                 [&, f = first, c = count] { convert_elements(tensor, f, c, DType::f32, out); });
  }
}

TEST(Safetensors, ConvertsIntegers) {
  const auto read = [](const std::string& file) { return to_int64(parse(file).tensor("t")); };
  using Values = std::vector<std::int64_t>;
  EXPECT_EQ(read(one_tensor("I64", Values{-1, INT64_MAX})), (Values{-1, INT64_MAX}));
  EXPECT_EQ(read(one_tensor("I32", std::vector<std::int32_t>{-7, 7})), (Values{-7, 7}));
  EXPECT_EQ(read(one_tensor("U32", std::vector<std::uint32_t>{UINT32_MAX})), Values{UINT32_MAX});
  EXPECT_EQ(read(one_tensor("I16", std::vector<std::int16_t>{-2})), Values{-2});
  EXPECT_EQ(read(one_tensor("U16", std::vector<std::uint16_t>{65535})), Values{65535});
  EXPECT_EQ(read(one_tensor("I8", std::vector<std::int8_t>{-3})), Values{-3});
  EXPECT_EQ(read(one_tensor("U8", std::vector<std::uint8_t>{255})), Values{255});
  expect_error(ErrorCode::unsupported, "tensor 't' has dtype F32",
               [&] { read(one_tensor("F32", std::vector<float>{1})); });
  expect_error(ErrorCode::unsupported, "tensor 't' has dtype I32", [&] {
    const std::string file = one_tensor("I32", std::vector<std::int32_t>{1});
    to_float32(parse(file).tensor("t"));
  });
}

TEST(Safetensors, ConvertsUnalignedData) {
  // A header of 57 bytes puts the floats at an odd address.
  std::string header = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  while (header.size() % 4 != 1) header += ' ';
  const std::vector<float> values = {1.25F, -8.0F};
  const std::string file = raw_file(header, 0) + bytes_of(values);
  EXPECT_EQ(to_float32(parse(file).tensor("t")), values);
}

TEST(Safetensors, MapsFilesAndMoves) {
  const TempDir dir;
  dir.write("a.safetensors", one_tensor("F32", std::vector<float>{4, 5, 6}));
  SafetensorsFile file = SafetensorsFile::open(dir / "a.safetensors");
  const StoredTensor* tensor = file.find("t");
  const SafetensorsFile moved = std::move(file);
  EXPECT_EQ(moved.find("t"), tensor) << "a move must keep tensors where they are";
  EXPECT_EQ(to_float32(moved.tensor("t")), (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(moved.source(), (dir / "a.safetensors").string());
}

}  // namespace
}  // namespace comet
