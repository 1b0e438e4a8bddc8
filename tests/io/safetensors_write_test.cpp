// SPDX-License-Identifier: Apache-2.0
// Writing: what is written can be read, bad requests are refused, and failures lose nothing.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "io/expect_error.hpp"
#include "io/safetensors.hpp"
#include "io/temp_dir.hpp"

namespace comet {
namespace {

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::size_t num_files(const TempDir& dir) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    ++count;
  }
  return count;
}

TEST(SafetensorsWrite, ReadsBackWhatItWrote) {
  const TempDir dir;
  const std::vector<float> floats = {1, -2, 3.5F, 4, 5, 6};
  const std::vector<bf16> halves = {to_bf16(0.5F), to_bf16(-0.25F), to_bf16(9)};
  const std::vector<std::int64_t> ids = {7, -1};
  const std::vector<std::uint8_t> odd = {1, 2, 3};
  const std::vector<TensorToWrite> tensors = {
      {"odd", StoredType::u8, {3}, odd.data()},
      {"\"quoted\\ \xc3\xa9", StoredType::bf16, {3, 1}, halves.data()},
      {"w", StoredType::f32, {2, 3}, floats.data()},
      {"none", StoredType::f32, {0, 5}, nullptr},
      {"scalar", StoredType::f32, {}, floats.data()},
      {"ids", StoredType::i64, {2}, ids.data()},
  };
  write_safetensors(dir / "out.safetensors", tensors, {{"format", "pt"}});
  const SafetensorsFile file = SafetensorsFile::open(dir / "out.safetensors");
  EXPECT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(to_float32(file.tensor("w")), floats);
  EXPECT_EQ(file.tensor("w").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(to_int64(file.tensor("ids")), ids);
  EXPECT_EQ(to_int64(file.tensor("odd")), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(to_float32(file.tensor("\"quoted\\ \xc3\xa9")), (std::vector<float>{0.5F, -0.25F, 9}));
  EXPECT_EQ(file.tensor("none").shape, (std::vector<std::int64_t>{0, 5}));
  EXPECT_EQ(to_float32(file.tensor("scalar")), std::vector<float>{1});
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  for (const StoredTensor& tensor : file.tensors()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) %
                  static_cast<std::uintptr_t>(bits_of(tensor.type) / 8),
              0U)
        << tensor.name << " is not aligned to its elements";
  }
  EXPECT_EQ(num_files(dir), 1U) << "the temporary file must be gone";
}

TEST(SafetensorsWrite, WritesAnEmptyFile) {
  const TempDir dir;
  write_safetensors(dir / "out.safetensors", {});
  EXPECT_TRUE(SafetensorsFile::open(dir / "out.safetensors").tensors().empty());
}

TEST(SafetensorsWrite, ReplacesAFileThatIsStillOpen) {
  const TempDir dir;
  const float old_value = 1;
  const float new_value = 2;
  const std::vector<TensorToWrite> old_tensors = {{"t", StoredType::f32, {1}, &old_value}};
  const std::vector<TensorToWrite> new_tensors = {{"t", StoredType::f32, {1}, &new_value}};
  write_safetensors(dir / "f", old_tensors);
  const SafetensorsFile before = SafetensorsFile::open(dir / "f");
  write_safetensors(dir / "f", new_tensors);
  EXPECT_EQ(to_float32(before.tensor("t"))[0], 1) << "a mapping keeps the old file";
  EXPECT_EQ(to_float32(SafetensorsFile::open(dir / "f").tensor("t"))[0], 2);
}

TEST(SafetensorsWrite, RefusesBadTensorsAndKeepsTheOldFile) {
  const TempDir dir;
  dir.write("f", "precious");
  const float value = 0;
  const TensorToWrite good{"a", StoredType::f32, {1}, &value};
  const auto refuse = [&](std::vector<TensorToWrite> tensors, const std::string& words) {
    expect_error(ErrorCode::invalid_argument, words,
                 [&] { write_safetensors(dir / "f", tensors); });
    EXPECT_EQ(contents(dir / "f"), "precious");
  };
  refuse({good, good}, "'a' occurs twice");
  refuse({{"__metadata__", StoredType::f32, {1}, &value}}, "reserved name");
  refuse({{"b", StoredType::f32, {1}, nullptr}}, "'b' has no data");
  refuse({{"b", StoredType::f32, {-1}, &value}}, "negative dimension -1");
  refuse({{"b", StoredType::f32, {INT64_MAX, 2}, &value}}, "product overflows");
  refuse({{"b", StoredType::f4, {3}, &value}}, "do not fill whole bytes");
  refuse({{"\xff", StoredType::f32, {1}, &value}}, "cannot be written as JSON");
  refuse({{"b", StoredType::f32, std::vector<std::int64_t>(33, 1), &value}}, "33 dimensions");
  const std::int64_t half = std::int64_t{1} << 59;
  refuse({{"b", StoredType::u8, {half}, &value}, {"c", StoredType::f32, {half}, &value}},
         "overflow");
  EXPECT_EQ(num_files(dir), 1U);
}

TEST(SafetensorsWrite, ReportsWhatTheSystemRefuses) {
  const TempDir dir;
  expect_error(ErrorCode::io, "cannot create", [&] { write_safetensors(dir / "no/f", {}); });
  std::filesystem::create_directories(dir / "taken/inside");
  expect_error(ErrorCode::io, "it is not a regular file",
               [&] { write_safetensors(dir / "taken", {}); });
  EXPECT_EQ(num_files(dir), 1U) << "the temporary file must be gone after a failure";
}

TEST(SafetensorsWrite, OverwritesTheTemporaryFileOfACrash) {
  const TempDir dir;
  dir.write("f.tmp." + std::to_string(::getpid()), std::string(1000, 'x'));
  write_safetensors(dir / "f", {});
  EXPECT_TRUE(SafetensorsFile::open(dir / "f").tensors().empty());
  EXPECT_EQ(num_files(dir), 1U);
}

// A limit on the size of files stands for a full disk: the write fails halfway.
TEST(SafetensorsWrite, AFullDiskLosesNothing) {
  const TempDir dir;
  dir.write("f", "precious");
  const std::vector<float> values(1000, 1.0F);
  const std::vector<TensorToWrite> tensors = {{"t", StoredType::f32, {1000}, values.data()}};
  rlimit old_limit = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit small_limit = old_limit;
  small_limit.rlim_cur = 1024;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small_limit), 0);
  expect_error(ErrorCode::io, "cannot write", [&] { write_safetensors(dir / "f", tensors); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(contents(dir / "f"), "precious");
  EXPECT_EQ(num_files(dir), 1U) << "half a file must not stay behind";
}

}  // namespace
}  // namespace comet
