// SPDX-License-Identifier: Apache-2.0
// The plan against what its words promise, worked out here from the ids by plain loops.
#include "plan/plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

namespace comet {
namespace {

// A random routing of all ranks, with the plan of one of them.
struct Fixture {
  Fixture(std::uint32_t seed, std::int32_t rank_wished) {
    std::mt19937 random(seed);
    const auto draw = [&](int low, int high) {
      return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
    };
    ep = draw(1, 4);
    problem.tp = draw(1, 2);
    problem.world = ep * problem.tp;
    problem.rank = rank_wished % problem.world;
    problem.topk = draw(1, 5);
    problem.block_m = 8 * draw(1, 4);
    problem.groups = draw(1, 4);
    const int num_experts = draw(1, 9);
    std::vector<std::int32_t> counts(ep, 0);
    for (int e = 0; e < num_experts; ++e) {
      ep_rank_of.push_back(draw(0, ep - 1));
      local_of.push_back(counts[ep_rank_of.back()]++);
    }
    problem.num_local = counts[problem.rank / problem.tp];
    for (int r = 0; r < problem.world; ++r) {
      tokens.push_back(draw(0, 3) == 0 ? 0 : draw(1, 300));
      auto& list = ids.emplace_back();
      for (int i = 0; i < tokens.back() * problem.topk; ++i) {
        list.push_back(draw(0, 9) == 0 ? kDroppedId
                                       : static_cast<std::uint16_t>(draw(0, num_experts - 1)));
      }
    }
    for (const auto& list : ids) id_pointers.push_back(list.data());
    problem.ep_rank_of = ep_rank_of.data();
    problem.local_of = local_of.data();
    problem.tokens = tokens.data();
    problem.ids = id_pointers.data();
    build_plan(problem, scratch, plan);
  }

  std::int32_t group_of(std::int32_t source, std::int32_t token) const {
    const std::int64_t blocks = num_token_blocks(tokens[source]);
    for (std::int32_t g = 0; g < problem.groups; ++g) {
      if (token / kTokenBlock < group_block_begin(blocks, problem.groups, g + 1)) return g;
    }
    return -1;
  }
  std::int32_t step_of(std::int32_t source) const {
    return (source - problem.rank + problem.world) % problem.world;
  }

  std::int32_t ep = 1;
  PlanProblem problem;
  std::vector<std::int32_t> ep_rank_of, local_of, tokens;
  std::vector<std::vector<std::uint16_t>> ids;
  std::vector<const std::uint16_t*> id_pointers;
  PlanScratch scratch;
  Plan plan;
};

class PlanProperties : public testing::TestWithParam<int> {};

// Every local choice has one row, and rows of a (group, expert) lie in the order that row_order.hpp
// promises.
TEST_P(PlanProperties, RowsAreOrderedAndComplete) {
  const Fixture f(GetParam(), GetParam());
  const Plan& plan = f.plan;
  std::map<std::int32_t, std::tuple<int, int, int, int, int>> key_of_row;  // group, e, step, t, k
  std::int64_t num_needed = 0;
  for (const BlockTransfer& block : plan.blocks) {
    for (std::int32_t i = block.needed_begin; i < block.needed_end; ++i, ++num_needed) {
      const std::int32_t token = plan.needed[i].token;
      EXPECT_EQ(token / kTokenBlock, block.block);
      EXPECT_EQ(f.group_of(block.source, token), block.group);
      std::int32_t last_expert = -1;
      for (const NeededRow& row : plan.rows_of(i)) {
        const std::uint16_t id = f.ids[block.source][token * f.problem.topk + row.choice];
        const std::int32_t expert = local_expert_of(f.problem, id);
        ASSERT_GE(expert, 0);
        EXPECT_GE(expert, last_expert) << "rows of a token go by expert";
        last_expert = expert;
        EXPECT_TRUE(key_of_row
                        .insert({row.row,
                                 {block.group, expert, f.step_of(block.source), token, row.choice}})
                        .second);
      }
    }
  }
  std::int64_t expected = 0;
  for (const auto& list : f.ids) {
    expected += std::count_if(list.begin(), list.end(), [&](std::uint16_t id) {
      return local_expert_of(f.problem, id) >= 0;
    });
  }
  EXPECT_EQ(plan.num_rows, expected);
  EXPECT_EQ(static_cast<std::int64_t>(key_of_row.size()), expected);
  EXPECT_EQ(static_cast<std::int64_t>(plan.needed.size()), num_needed + 1);
  const std::tuple<int, int, int, int, int>* last = nullptr;
  for (const auto& [row, key] : key_of_row) {
    if (last != nullptr) {
      EXPECT_LT(*last, key) << "row slot " << row;
    }
    last = &key;
  }
}

// Tiles cover the rows in use, expect as many arrivals as they have rows, and name the last source.
TEST_P(PlanProperties, TilesKnowTheirRowsAndTheirLastSource) {
  const Fixture f(GetParam(), GetParam() + 1);
  const Plan& plan = f.plan;
  std::vector<std::int32_t> rows(plan.num_tiles(), 0);
  std::vector<std::int32_t> step(plan.num_tiles(), 0);
  for (const BlockTransfer& block : plan.blocks) {
    std::set<std::int32_t> touched;
    for (std::int32_t i = block.needed_begin; i < block.needed_end; ++i) {
      for (const NeededRow& row : plan.rows_of(i)) {
        const std::int32_t tile = row.row / f.problem.block_m;
        ++rows[tile];
        step[tile] = std::max(step[tile], f.step_of(block.source));
        EXPECT_EQ(plan.tiles[tile].group, block.group);
        EXPECT_LT(row.row % f.problem.block_m, plan.tiles[tile].rows);
        touched.insert(tile);
      }
    }
    const std::set<std::int32_t> listed(plan.block_tiles.begin() + block.tile_begin,
                                        plan.block_tiles.begin() + block.tile_end);
    EXPECT_EQ(listed, touched);
  }
  for (std::int64_t t = 0; t < plan.num_tiles(); ++t) {
    EXPECT_EQ(plan.tiles[t].rows, rows[t]);
    EXPECT_EQ(plan.tiles[t].step, step[t]);
  }
  EXPECT_TRUE(std::is_permutation(plan.walk.begin(), plan.walk.end(),
                                  [&] {
                                    std::vector<std::int32_t> all(plan.num_tiles());
                                    for (std::size_t i = 0; i < all.size(); ++i)
                                      all[i] = static_cast<std::int32_t>(i);
                                    return all;
                                  }()
                                      .begin()));
  for (std::size_t i = 1; i < plan.walk.size(); ++i) {
    const Tile& a = plan.tiles[plan.walk[i - 1]];
    const Tile& b = plan.tiles[plan.walk[i]];
    EXPECT_LE(std::tie(a.group, a.step, a.last_block, a.expert),
              std::tie(b.group, b.step, b.last_block, b.expert));
  }
}

// What one rank pulls, the other rank's home side counts; each token goes once to a rank.
TEST_P(PlanProperties, BothEndsAgreeOnTransfers) {
  Fixture f(GetParam(), 0);
  std::map<std::tuple<int, int, int>, int> sent;  // (home, token, rank)
  std::int64_t tokens_in = 0;
  std::int64_t tokens_out = 0;
  std::vector<std::set<std::tuple<int, int>>> home_sources(f.problem.world);  // (token, source)
  for (std::int32_t rank = 0; rank < f.problem.world; ++rank) {
    Fixture g(GetParam(), rank);
    tokens_in += g.plan.tokens_in;
    tokens_out += g.plan.tokens_out;
    for (const BlockTransfer& block : g.plan.blocks) {
      for (std::int32_t i = block.needed_begin; i < block.needed_end; ++i) {
        ++sent[{block.source, g.plan.needed[i].token, rank}];
      }
    }
    for (std::int32_t t = 0; t < g.tokens[rank]; ++t) {
      for (std::int32_t i = g.plan.token_sources_begin[t]; i < g.plan.token_sources_begin[t + 1];
           ++i) {
        home_sources[rank].insert({t, g.plan.token_sources[i]});
      }
    }
  }
  EXPECT_EQ(tokens_in, tokens_out);
  std::size_t expected = 0;
  for (const auto& sources : home_sources) expected += sources.size();
  EXPECT_EQ(sent.size(), expected);
  for (const auto& [key, count] : sent) {
    EXPECT_EQ(count, 1);
    EXPECT_TRUE(home_sources[std::get<0>(key)].contains({std::get<1>(key), std::get<2>(key)}));
  }
}

TEST_P(PlanProperties, PaddedRowsIsWhatThePlanUses) {
  const Fixture f(GetParam(), GetParam());
  EXPECT_EQ(padded_rows(f.problem, static_cast<std::int64_t>(f.ep_rank_of.size()),
                        f.problem.rank / f.problem.tp),
            f.plan.num_tiles() * f.problem.block_m);
}

INSTANTIATE_TEST_SUITE_P(Random, PlanProperties, testing::Range(1, 61));

TEST(Plan, LocalTilesComeFirst) {
  // Two ranks with one expert each; rank 1's own token and rank 0's token meet in one tile of
  // expert 1, so it waits for step 1; with block_m 1 the own row is a tile of step 0.
  const std::int32_t ep_rank_of[] = {0, 1};
  const std::int32_t local_of[] = {0, 0};
  const std::int32_t tokens[] = {1, 1};
  const std::uint16_t to_expert_1[] = {1};
  const std::uint16_t* ids[] = {to_expert_1, to_expert_1};
  PlanProblem problem{.world = 2,
                      .rank = 1,
                      .tp = 1,
                      .topk = 1,
                      .num_local = 1,
                      .block_m = 8,
                      .groups = 1,
                      .ep_rank_of = ep_rank_of,
                      .local_of = local_of,
                      .tokens = tokens,
                      .ids = ids};
  Plan plan;
  PlanScratch scratch;
  build_plan(problem, scratch, plan);
  ASSERT_EQ(plan.num_tiles(), 1);
  EXPECT_EQ(plan.tiles[0].step, 1);
  EXPECT_EQ(plan.tiles[0].rows, 2);
  EXPECT_EQ(plan.blocks[0].source, 1) << "the rank's own rows come first";
  problem.block_m = 1;
  build_plan(problem, scratch, plan);
  ASSERT_EQ(plan.num_tiles(), 2);
  EXPECT_EQ(plan.tiles[0].step, 0);
  EXPECT_EQ(plan.tiles[1].step, 1);
}

}  // namespace
}  // namespace comet
