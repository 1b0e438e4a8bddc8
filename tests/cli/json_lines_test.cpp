// SPDX-License-Identifier: Apache-2.0
// Files of rows: nothing that anybody added is lost, and no other file gets rows.
#include "cli/json_lines.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "io/expect_error.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"

namespace comet::cli {
namespace {

std::string read(const std::filesystem::path& path) { return read_text_file(path, 1 << 20); }

TEST(JsonLines, MakesNoFileBeforeTheFirstRow) {
  const TempDir dir;
  const JsonLines lines(dir / "rows");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  lines.append({"{}"});
  EXPECT_EQ(read(dir / "rows"), "{}\n");
  expect_error(ErrorCode::io, "cannot create", [&] { JsonLines(dir / "nowhere/rows"); });
}

TEST(JsonLines, AddsToWhatTheFileHoldsByNow) {
  const TempDir dir;
  dir.write("rows", "{\"a\":1}");
  const JsonLines first(dir / "rows"), second(dir / "rows");
  first.append({"{\"b\":1}"});
  second.append({"{\"c\":1}", "{\"c\":2}"});
  dir.write("rows", read(dir / "rows") + "{\"d\":1}");  // an editor's, without a line break
  first.append({"{\"b\":2}"});
  EXPECT_EQ(read(dir / "rows"),
            "{\"a\":1}\n{\"b\":1}\n{\"c\":1}\n{\"c\":2}\n{\"d\":1}\n{\"b\":2}\n");
}

TEST(JsonLines, LosesNothingOfManyAtATime) {
  const TempDir dir;
  std::filesystem::create_directories(dir / "far");
  std::filesystem::create_symlink("far/rows", dir / "link");
  constexpr int kWriters = 4, kTimes = 10;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      const JsonLines lines(writer % 2 == 0 ? dir / "link" : dir / "far/rows");
      for (int i = 0; i < kTimes; ++i) lines.append({"{\"row\":1}"});
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string text = read(dir / "far/rows");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), kWriters * kTimes) << text;
  EXPECT_EQ(text.size(), std::string("{\"row\":1}\n").size() * kWriters * kTimes);
}

TEST(JsonLines, RefusesAFileOfSomethingElse) {
  const TempDir dir;
  using namespace std::string_literals;
  for (const std::string& text : {"{\n \"format\": \"comet-profile\"\n}\n"s, "[1]\n"s, "3\n"s,
                                  "\n{}\n"s, "text\n"s, "{\"a\":1} x\n"s, "{}\0\n"s}) {
    dir.write("file", text);
    expect_error(ErrorCode::format, "file' holds no rows", [&] { JsonLines(dir / "file"); });
    EXPECT_EQ(read(dir / "file"), text);
  }
  // Also if it came while a command ran.
  dir.write("file", "");
  const JsonLines lines(dir / "file");
  dir.write("file", "text\n");
  expect_error(ErrorCode::format, "holds no rows", [&] { lines.append({"{}"}); });
  EXPECT_EQ(read(dir / "file"), "text\n");
}

}  // namespace
}  // namespace comet::cli
