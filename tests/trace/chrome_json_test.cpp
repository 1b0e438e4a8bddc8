// SPDX-License-Identifier: Apache-2.0
// The JSON against the rules of its format, and against the events that went in.
#include "trace/chrome_json.hpp"

#include <gtest/gtest.h>

#include "comet/error.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"
#include "trace/make_events.hpp"
#include "trace/trace_format.hpp"

namespace comet {
namespace {

using enum TraceKind;

std::string text_of(const TimelineSet& set) {
  std::string text;
  stream_chrome_json(set, [&](std::string_view piece) { text += piece; });
  return text;
}

TimelineSet small_set() {
  return {.title = "t",
          .captions = {"a", "b"},
          .timelines = {small_timeline("sequential", 2000), small_timeline("comet")}};
}

std::string name_of_process(const nlohmann::json& file, int pid) {
  for (const auto& event : file.at("traceEvents")) {
    if (event.at("name") == "process_name" && event.at("pid") == pid) {
      return event.at("args").at("name");
    }
  }
  return "";
}

TEST(ChromeJson, FollowsTheFormat) {
  const auto file = nlohmann::json::parse(text_of(small_set()));
  const auto threads = expect_trace_format(file);
  std::size_t events = 0;
  for (const auto& [key, of_thread] : threads) events += of_thread.size();
  EXPECT_EQ(events, 2U * (10 + 3));  // a transfer is shown at both its ends
  EXPECT_EQ(name_of_process(file, 1000), "sequential rank 0");
  EXPECT_EQ(name_of_process(file, 2001), "comet rank 1");
  EXPECT_EQ(file.at("otherData").at("schedule 2"), "comet: 0.001 ms, 2.00x");
}

TEST(ChromeJson, TimesAreMicrosecondsFromTheStartOfTheCall) {
  TimelineSet set = small_set();
  TraceEvent gemm = make_event(first_gemm, 1, 1, 12'345, 13'000);
  gemm.tile = 7;
  gemm.group = 0;
  set.timelines = {make_timeline("comet", 2, 2, 20'000, {gemm})};
  const auto threads = expect_trace_format(nlohmann::json::parse(text_of(set)));
  ASSERT_EQ(threads.size(), 1U);
  const nlohmann::json& event = threads.begin()->second.at(0);
  EXPECT_EQ(event.at("name"), "first_gemm");
  EXPECT_EQ(event.at("cat"), "compute");
  EXPECT_DOUBLE_EQ(event.at("ts"), 12.345);
  EXPECT_DOUBLE_EQ(event.at("dur"), 0.655);
  EXPECT_EQ(event.at("args"), (nlohmann::json{{"tile", 7}, {"group", 0}}));
}

TEST(ChromeJson, NothingIsAFileToo) {
  EXPECT_TRUE(expect_trace_format(nlohmann::json::parse(text_of({}))).empty());
  TimelineSet set;
  set.timelines = {make_timeline("comet", 2, 1, 0)};
  const auto file = nlohmann::json::parse(text_of(set));
  EXPECT_TRUE(expect_trace_format(file).empty());
  EXPECT_EQ(name_of_process(file, 1001), "comet rank 1");
}

TEST(ChromeJson, AnyNameIsWritten) {
  TimelineSet set = small_set();
  set.title = "a \"quoted\" \\ title\n\x01 \xff end";
  set.timelines[0].name = "<\"x\">";
  const auto file = nlohmann::json::parse(text_of(set));
  expect_trace_format(file);
  EXPECT_EQ(file.at("otherData").at("title"), "a \"quoted\" \\ title\n\x01 \xef\xbf\xbd end");
  EXPECT_EQ(name_of_process(file, 1000), "<\"x\"> rank 0");
}

TEST(ChromeJson, OnlyTheRanksAskedFor) {
  TimelineSet set = small_set();
  set.ranks = {1};
  const auto file = nlohmann::json::parse(text_of(set));
  for (const auto& [key, events] : expect_trace_format(file)) EXPECT_EQ(key.first % 1000, 1);
  EXPECT_EQ(name_of_process(file, 1000), "");
}

TEST(ChromeJson, TooManyRanksAreRefused) {
  TimelineSet set;
  set.timelines = {make_timeline("comet", 1000, 1, 10)};
  EXPECT_THROW(text_of(set), Error);
}

TEST(ChromeJson, FileIsWholeOrAsBefore) {
  const TempDir dir;
  const auto path = dir / "trace.json";
  write_chrome_json(small_set(), path);
  EXPECT_EQ(read_text_file(path, 1 << 20), text_of(small_set()));
  TimelineSet bad = small_set();
  bad.timelines[1].num_ranks = 1;
  EXPECT_THROW(write_chrome_json(bad, path), Error);
  EXPECT_EQ(read_text_file(path, 1 << 20), text_of(small_set()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
  EXPECT_THROW(write_chrome_json(small_set(), dir / "no" / "trace.json"), Error);
}

TEST(ChromeJson, ADeviceIsNotReplaced) {
  try {
    write_chrome_json(small_set(), "/dev/null");
    FAIL() << "wrote a device";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
  }
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

}  // namespace
}  // namespace comet
