// SPDX-License-Identifier: Apache-2.0
// comet run --check on results that are wrong, which a healthy engine never gives.
#include "cli/run_report.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

namespace comet::cli {
namespace {

LayerResult result_of(const std::vector<float>& y, const std::vector<float>& reference) {
  const auto hidden = static_cast<std::int64_t>(y.size());
  LayerResult result{.y = Tokens(1, hidden, DType::f32),
                     .reference = Tokens(1, hidden, DType::f32),
                     .stats = std::vector<CallStats>(1)};
  std::memcpy(result.y.data.data(), y.data(), y.size() * sizeof(float));
  std::memcpy(result.reference->data.data(), reference.data(), y.size() * sizeof(float));
  return result;
}

std::string text_of(const LayerResult& result) {
  MoeBlock block;
  block.desc = {.num_experts = 8, .topk = 2, .hidden = 2, .intermediate = 8};
  return run_text({.block = block, .parallel = {}, .link = {}, .result = result, .out = ""});
}

TEST(RunReport, ErrorBeyondRoundingFails) {
  const LayerResult good = result_of({1.00001F, 2}, {1, 2});
  EXPECT_TRUE(is_run_good(good));
  EXPECT_NE(text_of(good).find("against reference, allowed 0.0001: passed"), std::string::npos);
  const LayerResult bad = result_of({1.01F, 2}, {1, 2});
  EXPECT_FALSE(is_run_good(bad));
  EXPECT_NE(text_of(bad).find("check     max relative error 0.005 against"), std::string::npos)
      << text_of(bad);
  EXPECT_NE(text_of(bad).find(": FAILED\n"), std::string::npos);
}

TEST(RunReport, NanFails) {
  EXPECT_FALSE(is_run_good(result_of({std::numeric_limits<float>::quiet_NaN(), 2}, {1, 2})));
}

TEST(RunReport, NamesTheGpuAndTheRanksPartOfIt) {
  LayerResult result = result_of({1, 2}, {1, 2});
  result.device = {.device = 0, .name = "NVIDIA H100", .multiprocessors = 16};
  MoeBlock block;
  block.desc = {.num_experts = 8, .topk = 2, .hidden = 2, .intermediate = 8};
  const std::string text = run_text({.block = block,
                                     .parallel = {},
                                     .backend = Backend::cuda,
                                     .link = {},
                                     .schedule = Schedule::pipelined,
                                     .result = result,
                                     .out = ""});
  EXPECT_NE(text.find("local:1 on NVIDIA H100, ep 1 x tp 1"), std::string::npos) << text;
  EXPECT_NE(text.find("pipelined, groups 1, multiprocessors per rank 16\n"), std::string::npos)
      << text;
}

// The schedule reference multiplies token by token: 0 would read as if nothing had been computed.
TEST(RunReport, NamesNoRowsWhereNoneAreMade) {
  LayerResult result = result_of({1, 2}, {1, 2});
  MoeBlock block;
  block.desc = {.num_experts = 8, .topk = 2, .hidden = 2, .intermediate = 8};
  const auto has_rows = [&](Schedule schedule) {
    const std::string text = run_text({.block = block,
                                       .parallel = {},
                                       .link = {},
                                       .schedule = schedule,
                                       .result = result,
                                       .out = ""});
    return text.find("rows ") != std::string::npos;
  };
  EXPECT_FALSE(has_rows(Schedule::reference));
  EXPECT_TRUE(has_rows(Schedule::sequential));
}

TEST(RunReport, NothingToCompareIsGood) {
  LayerResult result = result_of({1, 2}, {5, 6});
  result.reference.reset();
  EXPECT_TRUE(is_run_good(result));
  EXPECT_EQ(text_of(result).find("check"), std::string::npos);
}

}  // namespace
}  // namespace comet::cli
