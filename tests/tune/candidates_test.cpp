// SPDX-License-Identifier: Apache-2.0
#include "tune/candidates.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tune/predict.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

TEST(Candidates, WorkerSplits) {
  EXPECT_EQ(worker_splits(Backend::cuda, 132), (std::vector<int>{1, 2, 4, 8}));
  EXPECT_EQ(worker_splits(Backend::cuda, 8), (std::vector<int>{1, 2}));
  EXPECT_EQ(worker_splits(Backend::cpu, 4), (std::vector<int>{0, 1, 2}));
}

TEST(Candidates, CoverBothPlacementsAndStayWithinTheRank) {
  const TuneCase of = shared_gpu_case();
  std::set<std::int64_t> groups, panels;
  int warps = 0, blocks = 0;
  for (const TuneConfig& config : comet_configs(of)) {
    groups.insert(config.groups);
    panels.insert(config.panel);
    (config.placement == Placement::warps ? warps : blocks)++;
    EXPECT_LE(config.n_c_dispatch, of.workers);
  }
  EXPECT_EQ(groups, (std::set<std::int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(panels, (std::set<std::int64_t>{512, 1024}));
  EXPECT_GT(warps, 0);
  EXPECT_GT(blocks, warps);
}

TEST(Candidates, NoneTwice) {
  for (const TuneCase& of : {shared_gpu_case(), cpu_case()}) {
    const std::vector<TuneConfig> configs = comet_configs(of);
    for (std::size_t i = 0; i < configs.size(); ++i) {
      EXPECT_EQ(std::count(configs.begin(), configs.end(), configs[i]), 1) << i;
    }
  }
}

TEST(Candidates, AreRankedByPrediction) {
  const TuneCase of = shared_gpu_case();
  const MachineModel& machine = find_machine("h100");
  const std::vector<RankedConfig> ranked = rank_configs(machine, of, comet_configs(of));
  ASSERT_EQ(ranked.size(), comet_configs(of).size());
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    EXPECT_EQ(ranked[i].predicted_us,
              predict(machine, of, Schedule::comet, ranked[i].config).t_layer_us);
    EXPECT_LE(ranked[i > 0 ? i - 1 : 0].predicted_us, ranked[i].predicted_us);
  }
}

}  // namespace
}  // namespace comet
