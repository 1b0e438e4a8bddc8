// SPDX-License-Identifier: Apache-2.0
// comet report: what rows and pictures become, that their text stays text, and bad input.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"

namespace comet::cli {
namespace {

constexpr const char* kHeader =
    R"({"kind":"experiment","experiment":"tokens","title":"Many <tokens>","figure":"figure 10",)"
    R"("said":["The paper has 1.28."],"columns":[{"key":"link","title":"link"},)"
    R"({"key":"tokens","title":"tokens"},{"key":"t","title":"ms","digits":1},)"
    R"({"key":"none","title":"never"}]})";

std::string page_of(const TempDir& dir, const std::string& rows) {
  dir.write("rows.jsonl", rows);
  const std::string out = (dir / "out.html").string();
  const Outcome outcome = run_comet({"report", (dir / "rows.jsonl").string(), "-o", out});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out.find("1 experiments"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find(" 1 rows"), std::string::npos) << outcome.out;
  std::ifstream file(out);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool has(const std::string& page, const std::string& text) {
  return page.find(text) != std::string::npos;
}

TEST(Report, ShowsAnExperimentAsItsHeaderSays) {
  const TempDir dir;
  dir.write("tokens.svg", "<svg/>");
  const std::string page = page_of(
      dir, std::string(R"({"experiment":"tokens","link":"paced:20","tokens":8,"t":1.25})") +
               "\n\n" + R"({"experiment":"tokens","link":"paced:20","tokens":16,"t":null})" + "\n" +
               kHeader + "\n");
  EXPECT_TRUE(has(page, "<h2 id=\"tokens\">Many &lt;tokens&gt;</h2>")) << page;
  EXPECT_TRUE(has(page, "Beside figure 10 of the COMET paper"));
  EXPECT_TRUE(has(page, "The paper has 1.28."));
  EXPECT_TRUE(has(page, "data:image/svg+xml;base64,PHN2Zy8+"));
  EXPECT_TRUE(has(page, "In all rows: link paced:20 EMULATED."));
  EXPECT_TRUE(has(page, "<tr><th>tokens</th><th>ms</th></tr>")) << page;
  EXPECT_TRUE(has(page, "<tr><td>16</td><td>-</td></tr>"));
  EXPECT_FALSE(has(page, "never"));
}

TEST(Report, TakesRowsOfABenchmarkAndLeavesOthersOut) {
  const TempDir dir;
  const std::string page =
      page_of(dir, R"({"suite":"bench","schedule":"comet","t_layer_us":3.14159,"model":"<b>",)"
                   R"("command":"comet bench --ep 2"})"
                   "\n"
                   R"({"suite":"tests","kind":"gtest"})"
                   "\n");
  EXPECT_TRUE(has(page, "suite bench"));
  EXPECT_TRUE(has(page, "<td>3.1</td>"));
  EXPECT_TRUE(has(page, "<td>&lt;b&gt;</td>"));
  EXPECT_TRUE(has(page, "<pre>comet bench --ep 2\n</pre>"));
  EXPECT_TRUE(has(page, "Left out: 1 of another kind"));
}

TEST(Report, ANameThatIsNoFileNameHasNoPicture) {
  const TempDir dir;
  dir.write("secret.svg", "<svg/>");
  const std::string page = page_of(
      dir, R"({"experiment":"../)" + dir.path().filename().string() + R"(/secret","tokens":1})");
  EXPECT_FALSE(has(page, "<img"));
}

TEST(Report, SaysInOneSentenceWhatIsWrong) {
  const TempDir dir;
  const auto refused = [&](const std::string& rows, const char* why) {
    dir.write("rows.jsonl", rows);
    expect_refusal(run_comet({"report", (dir / "rows.jsonl").string()}), 2, why);
  };
  refused("", "no row of an experiment or of comet bench");
  refused("{\"experiment\":\n", "rows.jsonl line 1");
  refused("{\"suite\":\"x\"}\n[1]\n", "rows.jsonl line 2: no JSON object");
  refused(R"({"kind":"experiment","experiment":"a","columns":[{"key":"x"}]})", "no title");
  refused(R"({"kind":"experiment","experiment":"a"})", "columns");
  refused(R"({"kind":"experiment","experiment":"a","columns":[],"said":[3]})", "line 1");
  expect_refusal(run_comet({"report", "/nowhere.jsonl"}), 2, "/nowhere.jsonl");
  expect_refusal(run_comet({"report"}), 2, "rows is required");
  expect_refusal(run_comet({"report", "/nowhere.jsonl", "-o", ""}), 2, "--out: ''");
}

TEST(Report, DoesNotWriteOverItsRows) {
  const TempDir dir;
  const std::string row = R"({"suite":"mine","schedule":"comet","t_layer_us":1})";
  dir.write("rows.jsonl", row);
  dir.write("other.jsonl", row);
  std::filesystem::create_symlink("rows.jsonl", dir / "link");
  const auto path = [&](const char* name) { return (dir / name).string(); };
  for (const char* out : {"rows.jsonl", "link"}) {
    expect_refusal(run_comet({"report", path("other.jsonl"), path("rows.jsonl"), "-o", path(out)}),
                   2, "a file other than that of the rows");
  }
  EXPECT_EQ(read_text_file(path("rows.jsonl"), 1000), row);
}

}  // namespace
}  // namespace comet::cli
