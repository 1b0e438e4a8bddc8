// SPDX-License-Identifier: Apache-2.0
// A whole benchmark case on a tiny layer: rows, the auto link, progress and the JSON form. Times on
// a shared machine are anything, so only what holds for all of them is asserted.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comet/error.hpp"
#include "measure/bench_case.hpp"
#include "measure/build_info.hpp"
#include "measure/figures.hpp"
#include "measure/row_json.hpp"
#include "measure/small_bench.hpp"

namespace comet {
namespace {

TEST(RunBench, OneRowPerScheduleWithConsistentFigures) {
  BenchCase bench = small_bench();
  bench.link = parse_link("paced:0.05");
  const std::vector<BenchRow> rows = run_bench(bench);
  ASSERT_EQ(rows.size(), 3U);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const BenchRow& row = rows[i];
    EXPECT_EQ(row.schedule, bench.schedules[i]);
    EXPECT_EQ(row.rounds, 3);
    EXPECT_GT(row.t_layer_us, 0);
    EXPECT_LE(row.t_layer_best_us, row.t_layer_us);
    EXPECT_GE(row.t_layer_spread_us, 0);
    EXPECT_GT(row.t_compute_us, 0);
    EXPECT_GT(row.t_plan_us, 0);
    EXPECT_GT(row.workspace_bytes, 0);
    EXPECT_EQ(row.checked_tokens, 150);
    ASSERT_TRUE(row.t_link_us && row.hidden_share && row.t_stage_bound_us);
    EXPECT_DOUBLE_EQ(*row.hidden_share,
                     hidden_share(row.t_layer_us, row.t_compute_us, *row.t_link_us));
    EXPECT_DOUBLE_EQ(row.efficiency, efficiency(row.t_layer_us, row.t_compute_us, *row.t_link_us));
    EXPECT_DOUBLE_EQ(row.speedup_vs_sequential, rows[0].t_layer_us / row.t_layer_us);
    // A call cannot be faster than its busiest link.
    EXPECT_GT(row.t_layer_us, *row.t_link_us);
  }
  EXPECT_EQ(rows[0].speedup_vs_sequential, 1.0);
  EXPECT_EQ(rows[0].bytes_link % (32 * sizeof(float)), 0);  // whole tokens
}

TEST(RunBench, AutoLinkGetsTheRateOfTheAskedRatio) {
  BenchCase bench = small_bench();
  bench.link = parse_link("paced:auto:2");
  bench.schedules = {Schedule::comet};
  const std::vector<BenchRow> rows = run_bench(bench);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].link.kind, LinkSpec::Kind::paced);
  EXPECT_EQ(rows[0].link.auto_ratio, 2.0);
  EXPECT_GT(rows[0].link.gigabytes_per_second, 0);
  ASSERT_TRUE(rows[0].t_link_us);
  EXPECT_GT(*rows[0].t_link_us, 0);
}

TEST(RunBench, AutoLinkOfASingleRankIsAnError) {
  BenchCase bench = small_bench();
  bench.parallel = {.ep = 1, .tp = 1};
  bench.link = parse_link("paced:auto");
  EXPECT_THROW(run_bench(bench), Error);
}

TEST(RunBench, NativeLinkHasNoLinkFigures) {
  BenchCase bench = small_bench();
  bench.schedules = {Schedule::sequential, Schedule::reference};
  bench.check = false;
  const std::vector<BenchRow> rows = run_bench(bench);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_FALSE(rows[0].t_link_us.has_value());
  EXPECT_FALSE(rows[0].hidden_share.has_value());
  EXPECT_EQ(rows[0].checked_tokens, 0);
  EXPECT_EQ(rows[1].schedule, Schedule::reference);
}

TEST(RunBench, TensorParallelAndGivenChoices) {
  BenchCase bench = small_bench();
  bench.parallel = {.ep = 1, .tp = 2};
  bench.groups = 2;
  bench.n_c_dispatch = 1;
  bench.n_c_combine = 0;
  bench.workers = 3;
  bench.schedules = {Schedule::comet};
  const std::vector<BenchRow> rows = run_bench(bench);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].groups, 2);
  EXPECT_EQ(rows[0].n_c_dispatch, 1);
  EXPECT_EQ(rows[0].n_c_combine, 0);
  EXPECT_EQ(rows[0].workers, 3);
}

TEST(RunBench, ARowForEachGivenChoiceFastestFirst) {
  BenchCase bench = small_bench();
  bench.schedules = {Schedule::comet, Schedule::sequential};
  bench.comet_options = {
      {.groups = 1}, {.groups = 2, .panel = 16}, {.groups = 3}, {.groups = 5, .panel = 8}};
  bench.finalists = 4;
  std::vector<BenchRow> rows = run_bench(bench);
  ASSERT_EQ(rows.size(), 5U);
  EXPECT_EQ(rows[4].schedule, Schedule::sequential);
  std::int64_t groups = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(rows[i].schedule, Schedule::comet);
    EXPECT_EQ(rows[i].rounds, 3);
    EXPECT_GT(rows[i].panel, 0);
    EXPECT_GE(rows[i].t_layer_us, rows[i == 0 ? 0 : i - 1].t_layer_us);
    groups += rows[i].groups;
  }
  EXPECT_EQ(groups, 1 + 2 + 3 + 5);
  bench.finalists = 1;
  EXPECT_EQ(run_bench(bench).size(), 2U);
}

TEST(RunBench, ProgressNeverGoesBackAndEndsInTheRounds) {
  std::vector<BenchProgress> seen;
  run_bench(small_bench(), [&](const BenchProgress& progress) { seen.push_back(progress); });
  ASSERT_GE(seen.size(), 5U);
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_GE(seen[i].fraction, seen[i - 1].fraction);
  EXPECT_LE(seen.back().fraction, 1.0);
  EXPECT_EQ(seen.back().phase, "timing");
}

TEST(RunBench, RefusesCasesThatMeasureNothing) {
  BenchCase bench = small_bench();
  bench.rounds = 0;
  EXPECT_THROW(run_bench(bench), Error);
  bench = small_bench();
  bench.schedules.clear();
  EXPECT_THROW(run_bench(bench), Error);
  bench.schedules = {Schedule::comet, Schedule::comet};
  EXPECT_THROW(run_bench(bench), Error);
}

TEST(RunBench, OfGpusWithoutAnySaysSoBeforeItMakesData) {
  BenchCase bench = small_bench();
  bench.backend = Backend::cuda;
  bench.desc.dtype = DType::bf16;
  std::vector<BenchProgress> seen;
  try {
    run_bench(bench, [&](const BenchProgress& progress) { seen.push_back(progress); });
    FAIL() << "ran on a GPU in a build without CUDA";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("make cuda"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(seen.empty());
  bench.record = true;
  EXPECT_THROW(run_bench(bench), Error);
}

TEST(RowJson, OfGpusNamesThemAndTheirMultiprocessors) {
  BenchCase bench = small_bench();
  bench.backend = Backend::cuda;
  BenchRow row;
  row.workers = 16;
  row.device = "NVIDIA H100";
  row.num_devices = 1;
  row.is_graph = true;
  row.schedule = Schedule::comet;
  row.waves = 4;
  const auto object = nlohmann::json::parse(row_json(bench, row, make_origin("comet bench")));
  EXPECT_EQ(object["backend"], "cuda");
  EXPECT_EQ(object["device"], "NVIDIA H100");
  EXPECT_EQ(object["sms"], 16);
  EXPECT_EQ(object["graph"], true);
  EXPECT_EQ(object["placement"], "16 multiprocessors per rank");
  EXPECT_EQ(object["waves"], 4);
}

TEST(RowJson, HasExactlyTheKeysOfTheContract) {
  BenchCase bench = small_bench();
  bench.link = parse_link("paced:auto:0.6");
  BenchRow row;
  row.schedule = Schedule::comet;
  row.link = {.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 0.5, .auto_ratio = 0.6};
  const std::string text = row_json(bench, row, make_origin("comet bench"));
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto object = nlohmann::ordered_json::parse(text);
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  const std::vector<std::string> expected = {"suite",
                                             "model",
                                             "tokens",
                                             "hidden",
                                             "intermediate",
                                             "gated",
                                             "experts",
                                             "topk",
                                             "ep",
                                             "tp",
                                             "world",
                                             "ranks",
                                             "hosts",
                                             "backend",
                                             "device",
                                             "sms",
                                             "link",
                                             "routing",
                                             "schedule",
                                             "groups",
                                             "n_c_dispatch",
                                             "n_c_combine",
                                             "chunks",
                                             "graph",
                                             "t_layer_us",
                                             "t_layer_spread_us",
                                             "t_compute_us",
                                             "t_link_us",
                                             "t_plan_us",
                                             "t_publish_us",
                                             "t_dispatch_us",
                                             "t_combine_us",
                                             "t_stage_bound_us",
                                             "bytes_link",
                                             "hidden_share",
                                             "efficiency",
                                             "speedup_vs_sequential",
                                             "workspace_bytes",
                                             "dtype",
                                             "link_gbs",
                                             "tile",
                                             "panel",
                                             "placement",
                                             "command",
                                             "commit",
                                             "evidence",
                                             "date"};
  EXPECT_EQ(keys, expected);
  EXPECT_EQ(object["link"], "paced:auto:0.6");  // as asked for; the rate has its own key
  EXPECT_EQ(object["link_gbs"], 0.5);
  EXPECT_TRUE(object["hidden_share"].is_null());
  const std::string date = object["date"];
  ASSERT_EQ(date.size(), 20U) << date;
  EXPECT_EQ(date[10], 'T');
  EXPECT_EQ(date.back(), 'Z');
}

TEST(BuildInfo, EvidenceIsASha256) {
  const std::string evidence = build_evidence();
  EXPECT_EQ(evidence.size(), 64U);
  EXPECT_EQ(evidence.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_FALSE(std::string(build_commit()).empty());
}

}  // namespace
}  // namespace comet
