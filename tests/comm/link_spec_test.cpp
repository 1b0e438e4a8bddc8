// SPDX-License-Identifier: Apache-2.0
// Links are read strictly and print as what would be read again.
#include "comm/link_spec.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "comet/error.hpp"

namespace comet {
namespace {

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
