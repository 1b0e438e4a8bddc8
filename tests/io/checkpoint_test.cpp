// SPDX-License-Identifier: Apache-2.0
// Directories with one file or with shards, good and bad.
#include "io/checkpoint.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <vector>

#include "io/expect_error.hpp"
#include "io/json.hpp"
#include "io/temp_dir.hpp"

namespace comet {
namespace {

void write_scalar(const TempDir& dir, std::string_view file, const std::string& name, float value) {
  const std::vector<TensorToWrite> tensors = {{name, StoredType::f32, {}, &value}};
  write_safetensors(dir / file, tensors);
}

TEST(Checkpoint, ReadsASingleFile) {
  const TempDir dir;
  write_scalar(dir, "model.safetensors", "a", 3);
  Checkpoint checkpoint = Checkpoint::open(dir.path());
  EXPECT_EQ(checkpoint.names(), std::vector<std::string>{"a"});
  EXPECT_EQ(to_float32(checkpoint.tensor("a"))[0], 3);
  EXPECT_EQ(checkpoint.find("b"), nullptr);
  expect_error(ErrorCode::format, "has no tensor 'b'", [&] { checkpoint.tensor("b"); });
}

TEST(Checkpoint, NamesTheFilesThatItIsReadFrom) {
  const TempDir dir;
  const auto files = [&](std::vector<std::string> names) {
    std::vector<std::filesystem::path> paths;
    for (const std::string& name : names) paths.push_back(dir / name);
    return paths;
  };
  EXPECT_EQ(checkpoint_files(dir.path()),
            files({"model.safetensors", "model.safetensors.index.json"}));
  dir.write(
      "model.safetensors.index.json",
      R"({"weight_map":{"a":"one.safetensors","b":"gone.safetensors","c":"one.safetensors"}})");
  EXPECT_EQ(checkpoint_files(dir.path()),
            files({"gone.safetensors", "model.safetensors", "model.safetensors.index.json",
                   "one.safetensors"}));
}

TEST(Checkpoint, OpensShardsWhenAsked) {
  const TempDir dir;
  write_scalar(dir, "one.safetensors", "a", 1);
  write_scalar(dir, "two.safetensors", "b", 2);
  write_scalar(dir, "model.safetensors", "a", 99);  // the index counts
  dir.write("model.safetensors.index.json",
            R"({"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors",)"
            R"("b":"two.safetensors","lost":"gone.safetensors","lie":"one.safetensors"}})");
  Checkpoint checkpoint = Checkpoint::open(dir.path());
  EXPECT_EQ(checkpoint.num_open(), 0U);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b", "lie", "lost"}));
  const StoredTensor* a = checkpoint.find("a");
  EXPECT_EQ(to_float32(*a)[0], 1);
  EXPECT_EQ(checkpoint.num_open(), 1U);
  EXPECT_EQ(to_float32(checkpoint.tensor("b"))[0], 2);
  EXPECT_EQ(checkpoint.num_open(), 2U);
  EXPECT_EQ(checkpoint.find("a"), a) << "opening a shard must leave earlier tensors in place";
  expect_error(ErrorCode::io, "gone.safetensors", [&] { checkpoint.find("lost"); });
  expect_error(ErrorCode::format, "lacks tensor 'lie'", [&] { checkpoint.find("lie"); });
}

TEST(Checkpoint, RefusesShardsOutsideTheDirectory) {
  for (const char* shard :
       {"", ".", "..", "../x", "/etc/passwd", "sub/x", "a/../x", "..\\\\x", "C:x", "x\\u0000y"}) {
    const std::string text = R"({"weight_map":{"t":")" + std::string(shard) + R"("}})";
    expect_error(ErrorCode::format, "[checkpoint] i.json: tensor 't' lies in",
                 [&] { parse_weight_map(text, "i.json"); });
  }
  const std::string long_name = R"({"weight_map":{"t":")" + std::string(256, 'x') + R"("}})";
  expect_error(ErrorCode::format, "lies in", [&] { parse_weight_map(long_name, "i.json"); });
}

TEST(Checkpoint, RefusesBadIndexes) {
  const auto refuse = [](const std::string& text, const std::string& words) {
    expect_error(ErrorCode::format, words, [&] { parse_weight_map(text, "i.json"); });
  };
  refuse("", "bad JSON: 'parse error at line 1, column 1: ");
  refuse("[]", "needs an object 'weight_map'");
  refuse("null", "needs an object 'weight_map'");
  refuse("{}", "needs an object 'weight_map'");
  refuse(R"({"weight_map":[]})", "needs an object 'weight_map'");
  refuse(R"({"weight_map":{"t":1}})", "shard of tensor 't' is not a string");
  refuse(R"({"weight_map":{"t":null}})", "shard of tensor 't' is not a string");
  refuse(R"({"weight_map":{"t":"a","t":"b"}})", "key 't' occurs twice");
  refuse(R"({"weight_map":{},"weight_map":{}})", "key 'weight_map' occurs twice");
  refuse(R"({"weight_map":{}} x)", "bad JSON");
  refuse(std::string("{\"weight_map\":{}}\0x", 18), "NUL byte");
  refuse(std::string(1'000'000, '['), "nested deeper than 32");
  EXPECT_TRUE(parse_weight_map(R"({"weight_map":{}})", "i.json").empty());
}

TEST(Checkpoint, RefusesDirectoriesThatAreNone) {
  const TempDir dir;
  expect_error(ErrorCode::io, "has neither model.safetensors nor",
               [&] { Checkpoint::open(dir.path()); });
  expect_error(ErrorCode::io, "has neither", [&] { Checkpoint::open(dir / "missing"); });
  std::filesystem::create_directory(dir / "model.safetensors.index.json");
  expect_error(ErrorCode::io, "not a regular file", [&] { Checkpoint::open(dir.path()); });
}

TEST(Json, CountsNestingAndKeysPerObject) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_TRUE(parse_json(nested(32), "test", "t").is_array());
  expect_error(ErrorCode::format, "[test] t: JSON nested deeper than 32",
               [&] { parse_json(nested(33), "test", "t"); });
  EXPECT_EQ(parse_json(R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})", "test", "t")["b"][1]["a"], 2);
  EXPECT_EQ(quote_text("a\nb\x7f"), "'a?b?'");
  const std::string shown(100, 'x');
  EXPECT_EQ(quote_text(shown), fmt::format("'{}'", shown));
  EXPECT_EQ(quote_text(shown + "x"), fmt::format("'{}...'", shown));
}

}  // namespace
}  // namespace comet
