// SPDX-License-Identifier: Apache-2.0
// Damaged, truncated and hostile files: each is refused with Error(format) that says where.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>
#include <vector>

#include "io/expect_error.hpp"
#include "io/raw_file.hpp"
#include "io/safetensors.hpp"
#include "io/temp_dir.hpp"

namespace comet {
namespace {

void try_parse(const std::string& file) {
  SafetensorsFile::parse(file.data(), file.size(), "f.st");
}

struct Case {
  const char* name;
  std::string header;
  std::size_t data_bytes;
  const char* words;  // in the sentence
};

std::string tensor(const std::string& name, const std::string& shape, const std::string& offsets,
                   const std::string& type = "F32") {
  return "\"" + name + R"(":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

std::vector<Case> structure_cases() {
  return {
      {"no_object", "[]", 0, "does not begin with '{'"},
      {"leading_space", " {}", 0, "does not begin with '{'"},
      {"empty_header", "", 0, "does not begin with '{'"},
      {"cut_json", R"({"a":{)", 0, "the header is bad JSON: 'parse error at line 1, column "},
      {"trailing_garbage", "{}x", 0, "bad JSON"},
      {"two_values", "{}{}", 0, "bad JSON"},
      {"bad_utf8", "{\"\xff\":{}}", 0, "bad JSON"},
      {"nul", std::string("{}\0garbage", 10), 0, "NUL byte"},
      {"comment", "{/**/}", 0, "bad JSON"},
      {"tensor_is_null", R"({"a":null})", 0, "key 'a' must not have null"},
      {"tensor_is_number", R"({"a":1})", 0, "key 'a' must not have a number"},
      {"tensor_is_string", R"({"a":"b"})", 0, "key 'a' must not have a string"},
      {"tensor_is_list", R"({"a":[]})", 0, "key 'a' must not have an array"},
      {"tensor_is_true", R"({"a":true})", 0, "key 'a' must not have a boolean"},
      {"empty_tensor", R"({"a":{}})", 0, "tensor 'a' lacks one of"},
      {"no_offsets", R"({"a":{"dtype":"F32","shape":[1]}})", 4, "tensor 'a' lacks one of"},
      {"no_shape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "tensor 'a' lacks one of"},
      {"no_dtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "tensor 'a' lacks one of"},
      {"unknown_key", R"({"a":{"dtype":"F32","strides":[1]}})", 4, "unknown key 'strides'"},
      {"dtype_twice", R"({"a":{"dtype":"F32","dtype":"F32"}})", 4, "tensor 'a' has dtype twice"},
      {"shape_twice", R"({"a":{"shape":[1],"shape":[2]}})", 4, "tensor 'a' has shape twice"},
      {"name_twice", "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("a", "[1]", "[4,8]") + "}", 8,
       "tensor 'a' occurs twice"},
      {"empty_twice", "{" + tensor("a", "[0]", "[0,0]") + "," + tensor("a", "[0]", "[0,0]") + "}",
       0, "tensor 'a' occurs twice"},
      {"metadata_twice", R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__ occurs"},
      {"metadata_key_twice", R"({"__metadata__":{"k":"1","k":"2"}})", 0, "key 'k' occurs twice"},
      {"metadata_number", R"({"__metadata__":{"k":1}})", 0, "key 'k' must not have a number"},
      {"metadata_nested", R"({"__metadata__":{"k":{}}})", 0, "key 'k' must not have an object"},
      {"metadata_list", R"({"__metadata__":[]})", 0, "must not have an array"},
      {"metadata_null", R"({"__metadata__":null})", 0, "must not have null"},
      {"control_characters", "{\"a\\u0007\\u001b[31m\":1}", 0, "key 'a??[31m' must not"},
  };
}

std::vector<Case> number_cases() {
  return {
      {"unknown_dtype", "{" + tensor("a", "[1]", "[0,4]", "F31") + "}", 4, "unknown dtype 'F31'"},
      {"lower_dtype", "{" + tensor("a", "[1]", "[0,4]", "f32") + "}", 4, "unknown dtype 'f32'"},
      {"dtype_is_list", R"({"a":{"dtype":["F32"]}})", 4, "must not have an array"},
      {"dtype_is_number", R"({"a":{"dtype":32}})", 4, "must not have a number"},
      {"shape_is_string", R"({"a":{"shape":"[1]"}})", 4, "tensor 'a': key 'shape' must not have"},
      {"shape_is_number", R"({"a":{"shape":1}})", 4, "tensor 'a': key 'shape' must not have"},
      {"negative_shape", "{" + tensor("a", "[-1]", "[0,4]") + "}", 4, "a negative number"},
      {"fraction_shape", "{" + tensor("a", "[1.0]", "[0,4]") + "}", 4, "no integer below 2^63"},
      {"exponent_shape", "{" + tensor("a", "[1e0]", "[0,4]") + "}", 4, "no integer below 2^63"},
      {"big_shape", "{" + tensor("a", "[9223372036854775808]", "[0,4]") + "}", 4, "2^63 or more"},
      {"bigger_shape", "{" + tensor("a", "[99999999999999999999]", "[0,4]") + "}", 4, "below 2^63"},
      {"null_in_shape", "{" + tensor("a", "[null]", "[0,4]") + "}", 4, "must not have null"},
      {"list_in_shape", "{" + tensor("a", "[[1]]", "[0,4]") + "}", 4, "must not have an array"},
      {"object_in_shape", "{" + tensor("a", "[{}]", "[0,4]") + "}", 4, "must not have an object"},
      {"product_overflows", "{" + tensor("a", "[4294967296,4294967296]", "[0,4]") + "}", 4,
       "tensor 'a' has a shape whose product overflows"},
      {"product_wraps_to_1",  // 3 * 12297829382473034411 = 2^65 + 1
       "{" + tensor("a", "[3,6148914691236517205,3]", "[0,4]") + "}", 4, "product overflows"},
      {"bits_overflow", "{" + tensor("a", "[1152921504606846976]", "[0,4]") + "}", 4, "overflows"},
      {"zero_after_overflow", "{" + tensor("a", "[4294967296,4294967296,0]", "[0,0]") + "}", 0,
       "product overflows"},
      {"half_a_byte", "{" + tensor("a", "[3]", "[0,2]", "F4") + "}", 2, "do not fill whole bytes"},
      {"one_offset", "{" + tensor("a", "[1]", "[4]") + "}", 4, "needs two data_offsets and has 1"},
      {"no_offset", "{" + tensor("a", "[0]", "[]") + "}", 0, "needs two data_offsets and has 0"},
      {"three_offsets", "{" + tensor("a", "[1]", "[0,4,4]") + "}", 4, "more than 2 numbers"},
      {"negative_offset", "{" + tensor("a", "[1]", "[-4,0]") + "}", 4, "a negative number"},
      {"offset_past_data", "{" + tensor("a", "[2]", "[0,8]") + "}", 4, "outside the 4 bytes"},
      {"offsets_swapped", "{" + tensor("a", "[1]", "[4,0]") + "}", 4, "outside the 4 bytes"},
      {"huge_offset", "{" + tensor("a", "[1]", "[9223372036854775804,9223372036854775807]") + "}",
       4, "outside the 4 bytes"},
      {"overlap", "{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[2]", "[4,12]") + "}", 12,
       "tensor 'b' starts at byte 4 of the data, but the one before ends at 8: they overlap"},
      {"same_bytes", "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("b", "[1]", "[0,4]") + "}", 4,
       "they overlap"},
      {"empty_inside", "{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[0]", "[4,4]") + "}",
       8, "they overlap"},
      {"hole", "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("b", "[1]", "[8,12]") + "}", 12,
       "there is a hole"},
      {"hole_at_start", "{" + tensor("a", "[1]", "[4,8]") + "}", 8, "there is a hole"},
      {"bytes_left_over", "{" + tensor("a", "[1]", "[0,4]") + "}", 5, "has 5 bytes of data"},
      {"data_without_tensors", "{}", 1, "has 1 bytes of data"},
      {"shape_too_small", "{" + tensor("a", "[1]", "[0,8]") + "}", 8, "take 4 bytes"},
      {"shape_too_big", "{" + tensor("a", "[2]", "[0,4]") + "}", 4, "take 8 bytes"},
      {"wrong_dtype", "{" + tensor("a", "[1]", "[0,4]", "BF16") + "}", 4, "take 2 bytes"},
      {"scalar_without_bytes", "{" + tensor("a", "[]", "[0,0]") + "}", 0, "take 4 bytes"},
  };
}

TEST(SafetensorsHostile, RefusesEveryCase) {
  std::vector<Case> cases = structure_cases();
  for (Case& number_case : number_cases()) cases.push_back(std::move(number_case));
  for (const Case& hostile : cases) {
    SCOPED_TRACE(hostile.name);
    const std::string file = raw_file(hostile.header, hostile.data_bytes);
    expect_error(ErrorCode::format, hostile.words, [&] { try_parse(file); });
    expect_error(ErrorCode::format, "[safetensors] f.st: ", [&] { try_parse(file); });
  }
}

TEST(SafetensorsHostile, RefusesBadHeaderLengths) {
  const auto refuse = [](const std::string& file, const std::string& words) {
    expect_error(ErrorCode::format, words, [&] { try_parse(file); });
  };
  refuse("", "0 bytes are too few");
  refuse(std::string(7, '\0'), "7 bytes are too few");
  refuse(raw_file(3, "{}", 0), "only 2 bytes follow");
  refuse(raw_file(UINT64_MAX, "{}", 0), "at most 100000000");
  refuse(raw_file(UINT64_MAX - 7, "{}", 0), "at most 100000000");
  refuse(raw_file(SafetensorsFile::kMaxHeaderBytes + 1, "{}", 0), "at most 100000000");
  refuse(raw_file(SafetensorsFile::kMaxHeaderBytes, "{}", 0), "only 2 bytes follow");
  refuse(raw_file(1, "{}", 0), "bad JSON");
  expect_error(ErrorCode::format, "too few", [] { SafetensorsFile::parse(nullptr, 0, "f.st"); });
}

TEST(SafetensorsHostile, RefusesTooManyDimensions) {
  std::string shape = "[1";
  for (int i = 1; i < 32; ++i) shape += ",1";
  try_parse(raw_file("{" + tensor("a", shape + "]", "[0,4]") + "}", 4));
  expect_error(ErrorCode::format, "more than 32 numbers in shape",
               [&] { try_parse(raw_file("{" + tensor("a", shape + ",1]", "[0,4]") + "}", 4)); });
}

// Nesting is refused at the first bracket too many, so its depth costs neither stack nor memory.
TEST(SafetensorsHostile, RefusesDeepNesting) {
  for (const auto& [bracket, words] :
       {std::pair{"[", "key 'a' must not have an array"}, {"{\"a\":", "unknown key 'a'"}}) {
    std::string nested = "{\"a\":";
    while (nested.size() < 8'000'000) nested += bracket;
    expect_error(ErrorCode::format, words, [&] { try_parse(raw_file(nested, 0)); });
  }
}

TEST(SafetensorsHostile, LongNamesAreCutInSentences) {
  const std::string name(1'000'000, 'n');
  try {
    try_parse(raw_file("{\"" + name + "\":1}", 0));
    FAIL();
  } catch (const Error& error) {
    EXPECT_LT(std::string(error.what()).size(), 300U);
  }
}

// Each prefix of a good file, and the file with any single byte changed, is read or refused.
TEST(SafetensorsHostile, SurvivesEveryTruncationAndFlip) {
  const std::string good =
      raw_file("{\"__metadata__\":{\"format\":\"pt\"}," + tensor("a", "[2,1]", "[0,8]") + "," +
                   tensor("b", "[3]", "[8,14]", "BF16") + "}",
               14);
  try_parse(good);
  for (std::size_t length = 0; length < good.size(); ++length) {
    // A copy of its own size, so that AddressSanitizer sees a read past the end.
    const std::vector<char> cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_THROW(SafetensorsFile::parse(cut.data(), cut.size()), Error) << length;
  }
  int num_refused = 0;
  for (std::size_t position = 0; position < good.size(); ++position) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = good;
      flipped[position] = static_cast<char>(flipped[position] ^ (1 << bit));
      try {
        try_parse(flipped);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::format) << error.what();
        ++num_refused;
      }
    }
  }
  // Only flips in the data, in names and in metadata can go unnoticed.
  EXPECT_GT(num_refused, static_cast<int>(good.size()) * 4);
}

TEST(SafetensorsHostile, FilesThatAreNone) {
  const TempDir dir;
  const auto refuse = [](const std::filesystem::path& path, ErrorCode code,
                         const std::string& words) {
    expect_error(code, words, [&] { SafetensorsFile::open(path); });
    expect_error(code, path.string(), [&] { SafetensorsFile::open(path); });
  };
  refuse(dir / "missing", ErrorCode::io, "No such file");
  refuse(dir.path(), ErrorCode::io, "not a regular file");
  dir.write("empty", "");
  refuse(dir / "empty", ErrorCode::format, "0 bytes are too few");
  dir.write("cut", raw_file("{" + tensor("a", "[2]", "[0,8]") + "}", 7));
  refuse(dir / "cut", ErrorCode::format, "tensor 'a' has data_offsets [0, 8], outside the 7 bytes");
  // A named pipe must be refused, not waited for.
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  refuse(dir / "pipe", ErrorCode::io, "not a regular file");
}

}  // namespace
}  // namespace comet
