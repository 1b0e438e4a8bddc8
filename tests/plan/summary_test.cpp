// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "comet/error.hpp"
#include "comet/plan.hpp"

namespace comet {
namespace {

// Two ranks, experts 0 and 1 on rank 0, expert 2 on rank 1.
struct Query {
  std::vector<std::int32_t> ids0 = {0, 1, 2, 2};  // token 0 -> 0 and 1, token 1 -> 2 twice
  std::vector<std::int32_t> ids1 = {0, 1};        // one token, both experts on rank 0
  PlanQuery query{.desc = {.num_experts = 3, .topk = 2, .hidden = 8, .intermediate = 8},
                  .parallel = {.ep = 2},
                  .routing = {{.ids = ids0.data(), .tokens = 2}, {.ids = ids1.data(), .tokens = 1}},
                  .block_m = 8};
};

TEST(Summary, CountsRowsTilesAndDeduplicatedBytes) {
  const PlanSummary summary = summarize_plan(Query().query);
  EXPECT_EQ(summary.ranks[0].rows_per_expert, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(summary.ranks[1].rows_per_expert, (std::vector<std::int64_t>{2}));
  EXPECT_EQ(summary.ranks[0].tile_rows, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(summary.ranks[0].padded_rows, 16);
  // Each crossing token moves once, 8 floats, though it has two rows there.
  EXPECT_EQ(summary.dispatch_bytes, (std::vector<std::int64_t>{0, 32, 32, 0}));
  EXPECT_EQ(summary.row_bytes_without_dedup, 128);
  EXPECT_EQ(summary.busiest_bytes, 32);
  ASSERT_EQ(summary.ranks[1].steps.size(), 1U);
  EXPECT_EQ(summary.ranks[1].steps[0].step, 1);
  EXPECT_EQ(summary.ranks[1].steps[0].source, 0);
}

TEST(Summary, JsonHoldsTheSameNumbers) {
  const PlanSummary summary = summarize_plan(Query().query);
  const auto json = nlohmann::json::parse(summary.to_json());
  EXPECT_EQ(json["ranks"][0]["rows_per_expert"], (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(json["dispatch_bytes"][1][0], 32);
  EXPECT_EQ(json["ranks"][1]["steps"][0]["source"], 0);
  EXPECT_NE(summary.to_text().find("waits for"), std::string::npos);
}

TEST(Summary, RefusesBadIdsAndSizes) {
  Query bad;
  bad.ids1[0] = 3;
  EXPECT_THROW(summarize_plan(bad.query), Error);
  Query short_query;
  short_query.query.routing.pop_back();
  EXPECT_THROW(summarize_plan(short_query.query), Error);
}

}  // namespace
}  // namespace comet
