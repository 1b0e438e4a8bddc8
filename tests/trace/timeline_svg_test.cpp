// SPDX-License-Identifier: Apache-2.0
// The picture is well-formed whatever the names, says what it must, and stays small.
#include "trace/timeline_svg.hpp"

#include <gtest/gtest.h>

#include <regex>

#include "comet/error.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"
#include "trace/make_events.hpp"
#include "trace/well_formed.hpp"

namespace comet {
namespace {

using enum TraceKind;

TimelineSet titled_set() {
  return {
      .title = "One layer",
      .captions = {"shapes", "EMULATED link"},
      .timelines = {small_timeline("sequential", 8'000'000), small_timeline("comet", 5'000'000)}};
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

void expect_well_formed(const std::string& svg) { EXPECT_EQ(XmlReader(svg).fault(), ""); }

TEST(XmlReader, FindsWhatIsWrong) {
  EXPECT_EQ(XmlReader("<?xml version=\"1.0\"?>\n<a b=\"1\"><c/>x &amp; y</a>\n").fault(), "");
  for (const char* bad :
       {"", "text", "<a>", "<a></b>", "<a/><b/>", "<a b=1/>", "<a b=\"1\" b=\"2\"/>", "<a>&</a>",
        "<a b=\"<\"/>", "<a>\x01</a>", "<a", "</a>", "<a>&nbsp;</a>"}) {
    EXPECT_NE(XmlReader(bad).fault(), "") << bad;
  }
}

TEST(TimelineSvg, SaysWhatIsShown) {
  const std::string svg = timeline_svg(titled_set());
  expect_well_formed(svg);
  for (const char* words :
       {">One layer<", ">shapes<", ">EMULATED link<", ">sequential<", ">comet<", ">rank 0<",
        ">rank 1<", ">worker 1<", ">link in<", ">link out<", ">8.00 ms<", ">1.00x<", ">5.00 ms<",
        ">1.60x<", ">3.00 ms saved<", ">first GEMM with activation<", ">link busy: dispatch<",
        ">ms<", "width=\"1200\""}) {
    EXPECT_NE(svg.find(words), std::string::npos) << words;
  }
  EXPECT_EQ(svg.find("gather"), std::string::npos) << "the legend names a kind that is not there";
}

// A bar of 400 us of 8 ms must take 5 % of the plot, at the same place on both axes.
TEST(TimelineSvg, BarsAreToScale) {
  TimelineSet set;
  const auto timeline = [](const char* name, std::int64_t duration_ns) {
    return make_timeline(name, 1, 1, duration_ns,
                         {make_event(first_gemm, 0, 0, 2'000'000, 2'400'000)});
  };
  set.timelines = {timeline("sequential", 8'000'000), timeline("comet", 4'000'000)};
  const std::string svg = timeline_svg(set);
  const std::regex bar(
      R"re(<rect x="([0-9.]+)" y="0" width="([0-9.]+)" height="[0-9.]+" fill="#[0-9a-f]+"><title>first_gemm: 2.000 to 2.400 ms)re");
  const std::regex track(
      R"re(<rect x="([0-9.]+)" y="0" width="([0-9.]+)" height="11" fill="#f3f5f7")re");
  const std::vector<std::smatch> bars(std::sregex_iterator(svg.begin(), svg.end(), bar), {});
  const std::vector<std::smatch> tracks(std::sregex_iterator(svg.begin(), svg.end(), track), {});
  ASSERT_EQ(bars.size(), 2U);
  ASSERT_EQ(tracks.size(), 2U);
  const double left = std::stod(tracks[0][1]), width = std::stod(tracks[0][2]);
  EXPECT_NEAR(std::stod(tracks[1][2]), width / 2, 0.1);
  for (const std::smatch& match : bars) {
    EXPECT_NEAR(std::stod(match[1]), left + width / 4, 0.1);
    EXPECT_NEAR(std::stod(match[2]), width / 20, 1);
  }
}

TEST(TimelineSvg, NothingIsAPictureToo) {
  expect_well_formed(timeline_svg({}));
  TimelineSet set;
  set.timelines = {make_timeline("comet", 2, 1, 0)};
  const std::string svg = timeline_svg(set);
  expect_well_formed(svg);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(TimelineSvg, AnyNameIsDrawn) {
  TimelineSet set = titled_set();
  set.title = "a \"quoted\" & <title> 'x'\n\x01 \xff";
  set.timelines[0].note = "</text>";
  const std::string svg = timeline_svg(set);
  expect_well_formed(svg);
  EXPECT_NE(svg.find("a &quot;quoted&quot; &amp; &lt;title&gt; &#39;x&#39;   \xef\xbf\xbd"),
            std::string::npos);
}

TEST(TimelineSvg, OnlyTheRanksAskedFor) {
  TimelineSet set = titled_set();
  set.ranks = {1};
  const std::string svg = timeline_svg(set);
  EXPECT_EQ(count(svg, ">rank 0<"), 0U);
  EXPECT_EQ(count(svg, ">rank 1<"), 2U);
}

TEST(TimelineSvg, StaysBelowAMegabyteOrSo) {
  constexpr int kEvents = 20'000;  // a row
  constexpr int kRanks = 8, kWorkers = 4;
  Trace events;
  for (int rank = 0; rank < kRanks; ++rank) {
    for (int worker = 0; worker < kWorkers; ++worker) {
      for (int i = 0; i < kEvents; ++i) {
        events.push_back(make_event(i % 3 == 0 ? first_gemm : pull, rank, worker, 100 * i,
                                    100 * i + 90, rank == 0 ? 1 : 0));
      }
    }
  }
  TimelineSet set;
  set.timelines = {make_timeline("sequential", kRanks, kWorkers, 100 * kEvents, events)};
  const std::string svg = timeline_svg(set);
  expect_well_formed(svg);
  EXPECT_LT(svg.size(), 1'200'000U);
  EXPECT_GT(svg.size(), 200'000U) << "merged more than needed";
}

TEST(TimelineSvg, EventsThatDoNotFitAreRefused) {
  TimelineSet set = titled_set();
  set.timelines[1].num_workers = 1;
  EXPECT_THROW(timeline_svg(set), Error);
}

TEST(TimelineSvg, GoesToAFile) {
  const TempDir dir;
  write_timeline_svg(titled_set(), dir / "a.svg");
  EXPECT_EQ(read_text_file(dir / "a.svg", 1 << 20), timeline_svg(titled_set()));
  EXPECT_THROW(write_timeline_svg(titled_set(), dir / "no" / "a.svg"), Error);
}

}  // namespace
}  // namespace comet
