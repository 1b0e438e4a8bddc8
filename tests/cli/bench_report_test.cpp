// SPDX-License-Identifier: Apache-2.0
// What comet bench says of a case on GPUs, which a machine without any cannot show from outside.
#include "cli/bench_report.hpp"

#include <gtest/gtest.h>

namespace comet::cli {
namespace {

BenchCase gpu_case() {
  BenchCase bench;
  bench.model = "mixtral-8x7b";
  bench.desc = {.num_experts = 8, .topk = 2, .hidden = 4096, .intermediate = 14336};
  bench.desc.dtype = DType::bf16;
  bench.parallel = {.ep = 8, .tp = 1};
  bench.tokens = 8192;
  bench.backend = Backend::cuda;
  return bench;
}

BenchRow gpu_row() {
  BenchRow row;
  row.block_m = 128;
  row.block_n = 256;
  row.workers = 16;
  row.device = "NVIDIA H100";
  row.num_devices = 1;
  row.is_graph = true;
  row.input_copies = 7;
  row.link = {.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 20};
  return row;
}

TEST(BenchReport, NamesTheGpuAndWhatEachRankHasOfIt) {
  const auto lines = case_lines(gpu_case(), {}, gpu_row());
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[1],
            "8 ranks on one NVIDIA H100 (16 multiprocessors each), ep 8, tp 1, tile 128x256");
  EXPECT_EQ(lines[2].find("EMULATED link of 20 GB/s"), 0U) << lines[2];
  EXPECT_EQ(lines[3],
            "calls replayed from CUDA graphs, 7 copies of the inputs rotated past L2, times by the "
            "device's clock");
}

TEST(BenchReport, NamesSeveralGpusAndRealLinks) {
  BenchRow row = gpu_row();
  row.num_devices = 4;
  row.is_graph = false;
  row.input_copies = 1;
  row.link = {};
  const auto native = case_lines(gpu_case(), {}, row);
  EXPECT_EQ(native[1].find("8 ranks on 4 x NVIDIA H100"), 0U) << native[1];
  EXPECT_EQ(native[2], "native link (device memory and what joins the GPUs)");
  EXPECT_EQ(native[3], "calls launched anew, inputs larger than L2, times by the device's clock");
  row.num_devices = 1;
  EXPECT_EQ(case_lines(gpu_case(), {}, row)[2], "native link (device memory)");
  row.link.kind = LinkSpec::Kind::host;
  EXPECT_EQ(case_lines(gpu_case(), {}, row)[2],
            "host link: pinned host memory over PCIe, crossed twice");
}

TEST(BenchReport, OnCpuCountsWorkers) {
  BenchCase bench = gpu_case();
  bench.backend = Backend::cpu;
  BenchRow row;
  row.workers = 1;
  const auto lines = case_lines(bench, {}, row);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[1].find("8 in-process ranks (ep 8, tp 1) x 1 worker,"), 0U) << lines[1];
  EXPECT_EQ(lines[2], "native link (memory)");
}

}  // namespace
}  // namespace comet::cli
