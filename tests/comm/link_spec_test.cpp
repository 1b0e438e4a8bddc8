// SPDX-License-Identifier: Apache-2.0
// Links are read strictly and print as what would be read again.
#include "comm/link_spec.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "comet/error.hpp"

namespace comet {
namespace {

// A rank's GPU that reaches all others itself, in a world where rank `first_putting` does not.
class FakeDevice final : public ProcessDevice {
 public:
  explicit FakeDevice(int first_putting) : first_putting_(first_putting) {}
  DeviceRank& rank() noexcept override { std::abort(); }
  bool is_remote(int /*peer*/) const noexcept override { return false; }
  int first_putting() const noexcept override { return first_putting_; }
  DeviceMemory memory_for(std::size_t /*bytes*/) override { return {}; }
  std::vector<std::byte*> allocate(std::size_t /*bytes*/) override { return {}; }
  void release() override {}
  void set_pace(double /*gigabytes_per_second*/) override {}
  void clear_failure() override {}
  std::uint32_t* failed_word() noexcept override { return nullptr; }

 private:
  int first_putting_;
};

std::string refusal_of(const char* link, const ProcessDevice* device) {
  try {
    check_process_link(parse_link(link), device);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    return error.what();
  }
  return "";
}

TEST(LinkSpec, ReadsNative) {
  const LinkSpec link = parse_link("native");
  EXPECT_EQ(link.kind, LinkSpec::Kind::native);
  EXPECT_EQ(pacing_rate(link), 0);
  EXPECT_EQ(to_string(link), "native");
}

TEST(LinkSpec, ReadsRate) {
  const LinkSpec link = parse_link("paced:12.5");
  EXPECT_EQ(link.kind, LinkSpec::Kind::paced);
  EXPECT_EQ(link.gigabytes_per_second, 12.5);
  EXPECT_EQ(link.auto_ratio, 0);
  EXPECT_EQ(pacing_rate(link), 12.5);
}

TEST(LinkSpec, ReadsRatio) {
  EXPECT_EQ(parse_link("paced:auto").auto_ratio, 0.6);
  const LinkSpec link = parse_link("paced:auto:1.25");
  EXPECT_EQ(link.auto_ratio, 1.25);
  EXPECT_EQ(link.gigabytes_per_second, 0);
  EXPECT_EQ(pacing_rate(link), 0);
}

TEST(LinkSpec, PrintsWhatItReads) {
  for (const char* text : {"native", "paced:12.5", "paced:10", "paced:1e-06", "paced:1000000",
                           "paced:0.1", "paced:auto:0.6", "paced:auto:2"}) {
    EXPECT_TRUE(is_same_link(parse_link(to_string(parse_link(text))), parse_link(text))) << text;
  }
  EXPECT_EQ(to_string(parse_link("paced:auto")), "paced:auto:0.6");
}

TEST(LinkSpec, PrintsMeasuredRate) {
  LinkSpec link = parse_link("paced:auto:0.8");
  link.gigabytes_per_second = 3.5;
  EXPECT_EQ(to_string(link), "paced:3.5");
}

TEST(LinkSpec, RefusesEverythingElse) {
  for (const char* text : {"",
                           "Native",
                           "native ",
                           "paced",
                           "paced:",
                           "paced:0",
                           "paced:-1",
                           "paced:+1",
                           "paced: 1",
                           "paced:1 ",
                           "paced:1GB",
                           "paced:inf",
                           "paced:nan",
                           "paced:1e999",
                           "paced:1e7",
                           "paced:1e-7",
                           "paced:auto:",
                           "paced:auto:0",
                           "paced:auto:-1",
                           "paced:auto:x",
                           "paced:auto0.6",
                           "paced:auto:0.6:1",
                           "paced:auto:inf",
                           "host:1"}) {
    try {
      parse_link(text);
      ADD_FAILURE() << "'" << text << "' was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(std::string(error.what()).find("paced:auto"), std::string::npos) << error.what();
    }
  }
}

TEST(LinkSpec, ProcessesHavePacedLinksWhereNoRankPuts) {
  const FakeDevice reached(-1);
  const FakeDevice not_reached(2);
  EXPECT_EQ(refusal_of("native", nullptr), "");
  EXPECT_EQ(refusal_of("native", &not_reached), "");
  EXPECT_EQ(refusal_of("paced:20", &reached), "");
  EXPECT_EQ(refusal_of("paced:20", nullptr),
            "[world] link: paced:20, ranks that are processes have native links only");
  EXPECT_EQ(refusal_of("host", &reached),
            "[world] link: host, ranks that are processes have native links or paced ones");
  // All say the same, also those that reach all others.
  EXPECT_EQ(refusal_of("paced:20", &not_reached),
            "[world] link: paced:20, ranks that put to each other have native links only, and rank "
            "2 puts");
}

TEST(LinkSpec, ChecksLinksMadeByHand) {
  LinkSpec link;
  EXPECT_NO_THROW(check_link(link));
  link.kind = LinkSpec::Kind::paced;
  EXPECT_THROW(check_link(link), Error);  // Neither rate nor ratio.
  link.auto_ratio = 0.6;
  EXPECT_NO_THROW(check_link(link));
  link.gigabytes_per_second = 5;
  EXPECT_NO_THROW(check_link(link));
  for (const double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    link.gigabytes_per_second = bad;
    EXPECT_THROW(check_link(link), Error) << bad;
  }
}

}  // namespace
}  // namespace comet
