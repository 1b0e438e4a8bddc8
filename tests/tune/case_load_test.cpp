// SPDX-License-Identifier: Apache-2.0
// Expected loads against the plans of drawn routings, and the arithmetic of items.
#include "tune/case_load.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "comet/router.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

PlanSummary plan_of(const TuneCase& of, const char* routing) {
  const Routing drawn = make_routing(parse_synthetic_routing(routing), of.desc.num_experts,
                                     of.desc.topk, of.tokens, 1);
  PlanQuery query{.desc = of.desc, .parallel = of.parallel, .routing = {}};
  const std::int64_t world = of.parallel.world_size();
  const std::int64_t each = of.tokens / world;
  for (std::int64_t rank = 0; rank < world; ++rank) {
    const std::int64_t first = rank * each * of.desc.topk;
    query.routing.push_back(
        {.ids = drawn.ids.data() + first, .weights = drawn.weights.data() + first, .tokens = each});
  }
  return summarize_plan(query);
}

TEST(CaseLoad, ExpectationsMeetThePlanOfUniformRouting) {
  for (const ParallelDesc parallel : {ParallelDesc{8, 1}, ParallelDesc{4, 2}, ParallelDesc{1, 8}}) {
    TuneCase of = shared_gpu_case();
    of.parallel = parallel;
    const CaseLoad expected = expect_load(of, {.block_m = 128});
    const CaseLoad planned = planned_load(of, plan_of(of, "uniform"));
    EXPECT_NEAR(expected.rows / planned.rows, 1, 0.03);
    EXPECT_NEAR(expected.tokens_in / planned.tokens_in, 1, 0.03);
    EXPECT_NEAR(expected.row_tiles / planned.row_tiles, 1, 0.04);
    EXPECT_EQ(expected.own_tokens, planned.own_tokens);
    EXPECT_NEAR(expected.first.items / planned.first.items, 1, 0.04);
    EXPECT_EQ(expected.first.item_gmac, planned.first.item_gmac);
  }
}

TEST(CaseLoad, HotRoutingLoadsOneRankMore) {
  const TuneCase of = shared_gpu_case();
  EXPECT_GT(planned_load(of, plan_of(of, "hot")).rows, 3 * expect_load(of, {}).rows);
}

// Tensor parallelism: every rank computes a row of every choice, and gets every other rank's token.
TEST(CaseLoad, ATensorParallelRankNeedsEveryToken) {
  TuneCase of = shared_gpu_case();
  of.parallel = {.ep = 1, .tp = 8};
  const CaseLoad load = expect_load(of, {});
  EXPECT_DOUBLE_EQ(load.rows, 16384);
  EXPECT_DOUBLE_EQ(load.tokens_in, 8192 - 1024);
  EXPECT_DOUBLE_EQ(load.rows_per_token, 2);
}

TEST(CaseLoad, ItemsOfAGpuAreWholeTiles) {
  TuneCase of = shared_gpu_case();
  const CaseLoad load = expect_load(of, {.block_m = 128});
  EXPECT_DOUBLE_EQ(load.first.items, load.row_tiles * 14336 / 128);  // 128 columns of gate and up
  EXPECT_DOUBLE_EQ(load.second.items, load.row_tiles * 4096 / 256);
  EXPECT_DOUBLE_EQ(load.first.item_gmac, 128.0 * 256 * 4096 * 1e-9);
  of.desc.gated = false;
  EXPECT_DOUBLE_EQ(expect_load(of, {.block_m = 128}).first.items, load.row_tiles * 14336 / 256);
}

// The walk's tiles: expert by expert, and about as many as a plan has.
TEST(CaseLoad, TilesAreThoseOfThePlan) {
  for (const std::int64_t tokens : {2048, 8192}) {
    TuneCase of = shared_gpu_case(tokens);
    of.desc.num_experts = 64;
    of.desc.topk = 8;
    of.parallel = {.ep = 8, .tp = 1};
    const CaseLoad expected = expect_load(of, {});
    const CaseLoad planned = planned_load(of, plan_of(of, "uniform"));
    EXPECT_NEAR(static_cast<double>(expected.tiles.size()),
                static_cast<double>(planned.tiles.size()), 2);
    for (const CaseLoad* load : {&expected, &planned}) {
      double parts = 0;
      for (const RowTile& tile : load->tiles) parts += tile.part;
      EXPECT_DOUBLE_EQ(parts, load->row_tiles);
      EXPECT_TRUE(
          std::is_sorted(load->tiles.begin(), load->tiles.end(),
                         [](const RowTile& a, const RowTile& b) { return a.expert < b.expert; }));
      EXPECT_EQ(load->tiles.back().expert, 7);
    }
  }
}

// Two tokens a rank: some of the experts have a row, the others no tile.
TEST(CaseLoad, FewTokensLeaveExpertsWithoutTiles) {
  TuneCase of = shared_gpu_case(16);
  of.desc.num_experts = 64;
  const CaseLoad load = expect_load(of, {});
  EXPECT_GT(load.tiles.size(), 0U);
  EXPECT_LT(load.tiles.size(), 8U);
  EXPECT_EQ(expect_load(shared_gpu_case(1), {}).tiles.size(), 1U);
}

TEST(CaseLoad, NothingIsPulledInAWorldOfOne) {
  TuneCase of = shared_gpu_case();
  of.parallel = {};
  EXPECT_EQ(expect_load(of, {}).tokens_in, 0);
}

}  // namespace
}  // namespace comet
