// SPDX-License-Identifier: Apache-2.0
// What products read from a GPU's memory: by hand for walks of a few tiles.
#include "tune/memory_reads.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "tune/tune_cases.hpp"

namespace comet {
namespace {

constexpr double kTiny = 1e-9;  // products that take no time, so that only reads are left

// A cache that holds nothing.
MachineRates no_cache() { return {.weight_gbs = 4000, .reread_gbs = 4000, .cache_mb = 1e-6}; }

// Tiles of experts 0, 1, ..., as many each as `counts` says, all whole.
CaseLoad load_of(const std::vector<int>& counts) {
  CaseLoad load;
  for (std::size_t e = 0; e < counts.size(); ++e) {
    for (int i = 0; i < counts[e]; ++i) {
      load.tiles.push_back({.part = 1, .expert = static_cast<std::int32_t>(e)});
    }
  }
  load.row_tiles = static_cast<double>(load.tiles.size());
  load.rows = 128 * load.row_tiles;
  return load;
}

// How often the first product of comet reads the weights of all experts, on average. 16 workers
// walk in bands of four tiles.
double reads_of(const TuneCase& of, const CaseLoad& load, std::int64_t groups,
                const MachineRates& rates = no_cache()) {
  const StagePair time = comet_walk_us(rates, of, load, {kTiny, kTiny}, groups, 2);
  return time.first / one_pass_us(rates, of).first;
}

// One expert of five tiles: bands of 4 + 1, of 2 | 3, of 1 | 1 | 1 | 2, and one tile a group.
TEST(MemoryReads, EachBandReadsItsExpert) {
  const TuneCase of = shared_gpu_case();
  const CaseLoad five = load_of({5});
  EXPECT_NEAR(reads_of(of, five, 1), 2, 1e-6);
  EXPECT_NEAR(reads_of(of, five, 2), 2, 1e-6);
  EXPECT_NEAR(reads_of(of, five, 4), 4, 1e-6);
  EXPECT_NEAR(reads_of(of, five, 8), 5, 1e-6);
  EXPECT_NEAR(reads_of(of, load_of({4}), 1), 1, 1e-6);
}

// Two experts of three tiles each: 000 1 | 11 reads the second one twice, 000 | 111 does not.
TEST(MemoryReads, GroupsThatFitExpertsReadLess) {
  TuneCase of = shared_gpu_case();
  of.desc.num_experts = 16;
  EXPECT_NEAR(reads_of(of, load_of({3, 3}), 1), 1.5, 1e-6);
  EXPECT_NEAR(reads_of(of, load_of({3, 3}), 2), 1, 1e-6);
}

TEST(MemoryReads, ACacheKeepsAnExpertForTheNextBandOfItsGroup) {
  const TuneCase of = shared_gpu_case();
  MachineRates large = no_cache();
  large.cache_mb = 1e9;
  EXPECT_NEAR(reads_of(of, load_of({12}), 1), 3, 1e-6);
  EXPECT_NEAR(reads_of(of, load_of({12}), 1, large), 1, 1e-4);
  EXPECT_NEAR(reads_of(of, load_of({12}), 2, large), 2, 1e-4);
}

// A rank of a whole GPU walks in bands of sixteen.
TEST(MemoryReads, ManyWorkersReadLessOften) {
  TuneCase of = shared_gpu_case();
  of.workers = 132;
  EXPECT_NEAR(reads_of(of, load_of({12}), 1), 1, 1e-6);
}

// Only comet reads activations again: once a panel, and not if a group's stay in the cache.
TEST(MemoryReads, ActivationsOfSmallGroupsStayInTheCache) {
  const TuneCase of = shared_gpu_case();
  const CaseLoad load = load_of({16});
  const StagePair products{1000, 500};
  MachineRates rates = no_cache();
  const auto second = [&](std::int64_t groups, std::int64_t panel_columns) {
    return comet_walk_us(rates, of, load, products, groups, panel_columns).second;
  };
  const double sequential = sequential_walk_us(rates, of, load, products).second;
  EXPECT_GT(second(1, 2), 1.2 * sequential);
  EXPECT_GT(second(1, 2), second(1, 4));
  rates.cache_mb = 8 * 16 * 128 * 14336 * 2 * 1e-6;  // activations of all ranks
  EXPECT_GT(second(1, 2), second(4, 2));
}

// What comet sums comes from memory, and went there, unless a group's panel stays in the cache.
TEST(MemoryReads, RowsOfSmallGroupsAreSummedFromTheCache) {
  const TuneCase of = shared_gpu_case();
  const CaseLoad load = load_of({16});
  const StagePair products{kTiny, 1000};
  MachineRates rates{.weight_gbs = 1e12, .reread_gbs = 4000, .cache_mb = 1e-6};
  const auto second = [&](std::int64_t groups) {
    TuneCase narrow = of;
    narrow.desc.intermediate = 8;  // next to no activations
    return comet_walk_us(rates, narrow, load, products, groups, 16).second;
  };
  const double moved_us = 2.0 * 8 * 16 * 128 * 4096 * 2 / 4000 * 1e-3;  // 8 ranks, there and back
  EXPECT_NEAR(second(1), 1000 + 0.75 * moved_us + 2, 1);
  rates.cache_mb = 8 * 16 * 128 * 4096 * 2 * 1e-6;
  EXPECT_NEAR(second(4), 1000 + 0.75 * moved_us / 4 + 2, 1);
}

TEST(MemoryReads, EachPanelOfARowTileCosts) {
  const TuneCase of = shared_gpu_case();  // 16 column tiles, 16 workers
  const CaseLoad load = load_of({16});
  const MachineRates rates{.weight_gbs = 1e12, .reread_gbs = 1e12};
  const auto second = [&](std::int64_t panel_columns) {
    return comet_walk_us(rates, of, load, {1000, 1000}, 1, panel_columns).second;
  };
  EXPECT_NEAR(second(1) - second(2), 16, 1e-3);
  EXPECT_NEAR(second(2) - second(4), 8, 1e-3);
}

// What is hidden is less than the shorter of the two.
TEST(MemoryReads, ProductsHideAPartOfTheirReads) {
  const TuneCase of = shared_gpu_case();
  const CaseLoad load = load_of({4});
  const double read = one_pass_us(no_cache(), of).first;
  const double together = sequential_walk_us(no_cache(), of, load, {read, read}).first;
  EXPECT_GT(together, 1.5 * read);
  EXPECT_LT(together, 2 * read);
}

}  // namespace
}  // namespace comet
