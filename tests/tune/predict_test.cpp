// SPDX-License-Identifier: Apache-2.0
// What a prediction must obey whatever the constants are.
#include "tune/predict.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "io/expect_error.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

const TuneConfig kWarps{.groups = 4, .panel = 512, .n_c_dispatch = 16, .n_c_combine = 16};

double layer_us(const TuneCase& of, Schedule schedule = Schedule::comet,
                const TuneConfig& config = kWarps) {
  return predict(find_machine("h100"), of, schedule, config).t_layer_us;
}

TEST(Predict, ALinkTakesItsBytesOverItsRate) {
  const TuneCase of = shared_gpu_case();
  const Prediction prediction = predict(find_machine("h100"), of, Schedule::sequential, {});
  const double bytes = expect_load(of, {}).tokens_in * 4096 * 2;
  EXPECT_NEAR(prediction.t_link_us, 2 * bytes / 20e3, 1e-9);
  EXPECT_GT(prediction.t_layer_us, prediction.t_compute_us + prediction.t_link_us);
}

TEST(Predict, NoCallIsFasterThanItsBounds) {
  for (const std::int64_t tokens : {64, 1024, 8192, 65536}) {
    const TuneCase of = shared_gpu_case(tokens);
    const Prediction prediction = predict(find_machine("h100"), of, Schedule::comet, kWarps);
    EXPECT_GT(prediction.t_layer_us, prediction.t_link_us) << tokens;
  }
  EXPECT_LT(layer_us(shared_gpu_case()), layer_us(shared_gpu_case(), Schedule::sequential));
}

TEST(Predict, TimesGrowWithTokensSlownessAndSkew) {
  EXPECT_LT(layer_us(shared_gpu_case(8192)), layer_us(shared_gpu_case(16384)));
  EXPECT_LT(layer_us(shared_gpu_case(8192, "paced:45")),
            layer_us(shared_gpu_case(8192, "paced:5")));
  const TuneCase of = shared_gpu_case();
  CaseLoad skewed = expect_load(of, kWarps);
  const MachineModel& machine = find_machine("h100");
  const double even = predict(machine, of, skewed, Schedule::comet, kWarps).t_layer_us;
  skewed.row_tiles *= 2;
  const std::vector<RowTile> tiles = skewed.tiles;
  skewed.tiles.insert(skewed.tiles.end(), tiles.begin(), tiles.end());
  skewed.first.items *= 2;
  skewed.second.items *= 2;
  EXPECT_GT(predict(machine, of, skewed, Schedule::comet, kWarps).t_layer_us, 1.5 * even);
}

TEST(Predict, MoreMultiprocessorsAndFewerNeighboursHelp) {
  TuneCase of = shared_gpu_case();
  const double shared = layer_us(of);
  of.workers = 32;
  EXPECT_LT(layer_us(of), shared);
  of = shared_gpu_case();
  of.ranks_per_device = 1;
  EXPECT_LT(layer_us(of), shared);
}

// With few tokens, groups of a row tile or two read all weights as often as there are groups. On
// 8 ranks of an H200 Mixtral took 2.7, 3.4 and 3.6 ms with 2, 4 and 8 groups and 2048 tokens, and
// 5.0 and 6.4 ms with 4 and 8 groups and 4096.
TEST(Predict, GroupsOfFewTilesReadWeightsTooOften) {
  const auto with_groups = [](std::int64_t tokens, std::int64_t groups) {
    TuneConfig config = kWarps;
    config.groups = groups;
    return predict(find_machine("h200"), shared_gpu_case(tokens, "paced:45"), Schedule::comet,
                   config)
        .t_layer_us;
  };
  EXPECT_GT(with_groups(2048, 4), 1.1 * with_groups(2048, 2));
  EXPECT_GT(with_groups(2048, 8), 1.1 * with_groups(2048, 2));
  EXPECT_GT(with_groups(4096, 8), 1.1 * with_groups(4096, 4));
}

// With many tokens it is the other way round: 9.8, 9.6 and 9.2 ms with 1, 2 and 4 groups and 8192
// tokens, though no link is to be hidden.
TEST(Predict, GroupsOfABandAreBest) {
  const auto with_groups = [](std::int64_t groups) {
    TuneConfig config = kWarps;
    config.groups = groups;
    return predict(find_machine("h200"), shared_gpu_case(8192, "native"), Schedule::comet, config)
        .t_layer_us;
  };
  EXPECT_LT(with_groups(4), 0.99 * with_groups(1));
}

TEST(Predict, BlocksThatOnlyCommunicateAreMissedByProducts) {
  TuneConfig blocks = kWarps;
  blocks.placement = Placement::blocks;
  blocks.n_c_dispatch = blocks.n_c_combine = 2;
  const double two = layer_us(shared_gpu_case(), Schedule::comet, blocks);
  blocks.n_c_dispatch = blocks.n_c_combine = 7;
  EXPECT_LT(two, layer_us(shared_gpu_case(), Schedule::comet, blocks));
}

// Each rank of TP8 has a row of every choice: four times what it pulls. Qwen2-MoE with 8192 tokens
// took 9.0 ms with two blocks and 3.6 with eight on an H200 (bench/results/tuner.jsonl).
TEST(Predict, BlocksThatOnlyCommunicateWriteRowsToo) {
  TuneCase of = shared_gpu_case(8192, "native");
  of.desc = {.num_experts = 64, .topk = 4, .hidden = 2048, .intermediate = 1408, .gated = true};
  of.desc.dtype = DType::bf16;
  of.parallel = {.ep = 1, .tp = 8};
  const auto with = [&](int pullers) {
    return layer_us(of, Schedule::comet,
                    {.groups = 4,
                     .panel = 512,
                     .n_c_dispatch = pullers,
                     .n_c_combine = 2,
                     .placement = Placement::blocks});
  };
  EXPECT_GT(with(2), 1.5 * with(8));
}

// What tokens take to copy shows on a GPU where it is longer than the plan, on a CPU always.
TEST(Predict, GpusCopyTokensBesideThePlan) {
  const auto start = [](MachineModel machine, const TuneCase& of, double publish_gbs) {
    machine.rates.publish_gbs = publish_gbs;
    const Prediction found = predict(machine, of, Schedule::comet, {});
    return found.t_plan_us + found.t_publish_us;
  };
  const MachineModel& gpu = find_machine("h200");
  EXPECT_DOUBLE_EQ(start(gpu, shared_gpu_case(), 2000), start(gpu, shared_gpu_case(), 1000));
  EXPECT_GT(start(gpu, shared_gpu_case(), 10), 2 * start(gpu, shared_gpu_case(), 1000));
  const MachineModel& cpu = find_machine("cpu");
  EXPECT_LT(start(cpu, cpu_case(), 2000), start(cpu, cpu_case(), 1000));
}

TEST(Predict, ARankCopiesWithItsPartOfAGpu) {
  TuneCase of = shared_gpu_case(8192, "native");
  const auto copies_us = [&] {
    const Prediction found = predict(find_machine("h200"), of, Schedule::sequential, {});
    return found.t_layer_us - found.t_compute_us - found.t_plan_us - found.t_publish_us;
  };
  of.workers = 32;
  const double base = copies_us();
  of.workers = 16;
  EXPECT_NEAR(copies_us(), 2 * base, 1e-6 * base);
}

// On a CPU the copies of comet take its workers' time, and threads beyond the processors none.
TEST(Predict, CopiesOnACpuCostWorkersTime) {
  MachineModel machine = find_machine("cpu");
  machine.workers = 2;
  TuneCase of = cpu_case();
  const double base = predict(machine, of, Schedule::comet, {}).t_layer_us;
  of.workers = 4;
  EXPECT_DOUBLE_EQ(predict(machine, of, Schedule::comet, {}).t_layer_us, base);
  machine.rates.row_gbs /= 100;
  EXPECT_GT(predict(machine, of, Schedule::comet, {}).t_layer_us, 1.2 * base);
}

TEST(Predict, RefusesWhatItDoesNotKnow) {
  const TuneCase of = shared_gpu_case();
  const MachineModel& h100 = find_machine("h100");
  expect_error(ErrorCode::invalid_argument, "pipelined",
               [&] { predict(h100, of, Schedule::pipelined, {}); });
  expect_error(ErrorCode::invalid_argument, "backend",
               [&] { predict(find_machine("cpu"), of, Schedule::comet, {}); });
  expect_error(ErrorCode::invalid_argument, "rate",
               [&] { predict(h100, shared_gpu_case(8192, "paced:auto"), Schedule::comet, {}); });
  expect_error(ErrorCode::invalid_argument, "0 groups",
               [&] { predict(h100, of, Schedule::comet, {.groups = 0}); });
}

}  // namespace
}  // namespace comet
