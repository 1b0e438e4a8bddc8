// SPDX-License-Identifier: Apache-2.0
#include "tune/bench_rows.hpp"

#include <gtest/gtest.h>

#include "io/expect_error.hpp"
#include "io/temp_dir.hpp"

namespace comet {
namespace {

const std::string kRow =
    R"({"suite":"bench","kind":"best","model":"m","tokens":300,"hidden":64,"intermediate":32,)"
    R"("gated":false,"experts":4,"topk":2,"ep":2,"tp":2,"backend":"cuda","device":"GPU","sms":16,)"
    R"("link":"paced:auto:0.6","link_gbs":7.5,"routing":"uniform","schedule":"comet","groups":3,)"
    R"("n_c_dispatch":2,"n_c_combine":1,"communication":"blocks","chunks":1,"t_layer_us":12.5,)"
    R"("t_compute_us":9,"dtype":"f16","tile":"128x256","panel":512,"placement":"16 of it",)"
    R"("commit":"abc","date":"2026-01-01T00:00:00Z"})";

TEST(BenchRows, ReadsWhatBenchWrites) {
  const TempDir dir;
  dir.write("rows.jsonl", R"({"suite":"tests","result":"passed"})"
                          "\n\n" +
                              kRow + "\n");
  const std::vector<BenchRecord> rows = read_bench_rows(dir / "rows.jsonl");
  ASSERT_EQ(rows.size(), 1U);
  const MeasuredCase& measured = rows[0].measured;
  EXPECT_EQ(measured.of.tokens, 300);
  EXPECT_EQ(measured.of.parallel.world_size(), 4);
  EXPECT_EQ(measured.of.ranks_per_device, 4);
  EXPECT_EQ(measured.of.link.gigabytes_per_second, 7.5);
  EXPECT_EQ(measured.of.desc.dtype, DType::f16);
  EXPECT_FALSE(measured.of.desc.gated);
  EXPECT_EQ(measured.config, (TuneConfig{.block_m = 128,
                                         .block_n = 256,
                                         .groups = 3,
                                         .panel = 256,  // of 64 columns
                                         .n_c_dispatch = 2,
                                         .n_c_combine = 1,
                                         .placement = Placement::blocks}));
  EXPECT_EQ(measured.t_layer_us, 12.5);
  EXPECT_EQ(measured.t_compute_us, 0);  // of sequential only
  EXPECT_EQ(rows[0].device, "GPU");
  EXPECT_EQ(rows[0].commit, "abc");
}

TEST(BenchRows, HaveWavesSinceThereAreSome) {
  const TempDir dir;
  std::string row = kRow;
  row.replace(row.find("\"chunks\""), 8, "\"waves\":4,\"chunks\"");
  dir.write("rows.jsonl", kRow + "\n" + row);
  const std::vector<BenchRecord> rows = read_bench_rows(dir / "rows.jsonl");
  EXPECT_EQ(rows.at(0).measured.config.waves, 0);
  EXPECT_EQ(rows.at(1).measured.config.waves, 4);
}

// Else a profile made of them would be refused for choices beyond its cases' limits.
TEST(BenchRows, ChoicesAreWhatRan) {
  const TempDir dir;
  std::string row = kRow;
  row.replace(row.find("\"n_c_dispatch\":2"), 16, "\"n_c_dispatch\":99");
  row.replace(row.find("\"panel\":512"), 11, "\"panel\":100000");
  dir.write("rows.jsonl", row);
  const TuneConfig config = read_bench_rows(dir / "rows.jsonl")[0].measured.config;
  EXPECT_EQ(config.panel, 256);
  EXPECT_EQ(config.n_c_dispatch, 16);
  EXPECT_EQ(config.n_c_combine, 1);
}

TEST(BenchRows, SayWhichLineIsBad) {
  const TempDir dir;
  std::string bad = kRow;
  bad.replace(bad.find("\"hidden\":64"), 11, "\"hidden\":65");
  dir.write("rows.jsonl", kRow + "\n" + bad + "\n");
  expect_error(ErrorCode::format, "rows.jsonl line 2",
               [&] { read_bench_rows(dir / "rows.jsonl"); });
  bad = kRow;
  bad.replace(bad.find("\"panel\""), 7, "\"pan\"");
  dir.write("rows.jsonl", bad);
  expect_error(ErrorCode::format, "panel", [&] { read_bench_rows(dir / "rows.jsonl"); });
  dir.write("rows.jsonl", "{");
  expect_error(ErrorCode::format, "line 1", [&] { read_bench_rows(dir / "rows.jsonl"); });
}

}  // namespace
}  // namespace comet
