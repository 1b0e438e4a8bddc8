// SPDX-License-Identifier: Apache-2.0
// The plan that the device makes against the host's, word for word, for random routings.
#include "backend/cuda/kernels/plan_kernels.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "backend/cuda/kernels/overlap_order.hpp"
#include "comet/error.hpp"
#include "cuda/gpu_test.hpp"
#include "cuda/routing.hpp"

namespace comet::cuda {
namespace {

using Names = std::vector<const char*>;

class PlanKernels : public testing::Test {
 protected:
  void SetUp() override { COMET_NEEDS_GPU(); }
};

// The first difference of two lists of structs of words, or "". `words` names a struct's.
template <typename T>
std::string difference(const char* field, const Names& words, const T* device,
                       const std::vector<T>& expected) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::vector<T> seen = download(device, expected.size());
  EXPECT_EQ(sizeof(T), words.size() * sizeof(std::int32_t)) << field;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    std::vector<std::int32_t> a(words.size());
    std::vector<std::int32_t> b(words.size());
    std::memcpy(a.data(), &seen[i], sizeof(T));
    std::memcpy(b.data(), &expected[i], sizeof(T));
    for (std::size_t w = 0; w < words.size(); ++w) {
      if (a[w] == b[w]) continue;
      return fmt::format("{}[{}]{} of {}: device {}, host {}\n", field, i, words[w],
                         expected.size(), a[w], b[w]);
    }
  }
  return "";
}

// Everything in which the device's plan differs from the host's; "" where nothing does. Lists are
// compared only where their lengths agree.
std::string differences(const DevicePlanView& view, const Plan& plan) {
  const DevicePlanCounters counters = download(view.counters, 1).front();
  std::string all;
  const auto count = [&](const char* field, std::int64_t seen, std::size_t expected) {
    if (seen == static_cast<std::int64_t>(expected)) return;
    all += fmt::format("{}: device {}, host {}\n", field, seen, expected);
  };
  count("num_tiles", counters.num_tiles, plan.tiles.size());
  count("num_rows", counters.num_rows, static_cast<std::size_t>(plan.num_rows));
  count("num_rows (list)", counters.num_rows, plan.rows.size());
  count("num_needed", counters.num_needed, plan.needed.size() - 1);
  count("num_blocks", counters.num_blocks, plan.blocks.size());
  count("num_block_tiles", counters.num_block_tiles, plan.block_tiles.size());
  count("num_token_sources", counters.num_token_sources, plan.token_sources.size());
  count("num_block_sources", counters.num_block_sources, plan.block_sources.size());
  count("tokens_in", counters.tokens_in, static_cast<std::size_t>(plan.tokens_in));
  count("tokens_out", counters.tokens_out, static_cast<std::size_t>(plan.tokens_out));
  if (!all.empty()) return all;
  all += difference("tiles", {".group", ".expert", ".rows", ".step", ".last_block"}, view.tiles,
                    plan.tiles);
  all += difference("group_tiles", {""}, view.group_tiles, plan.group_tiles);
  all += difference("walk", {""}, view.walk, plan.walk);
  all += difference("needed", {".token", ".row_begin"}, view.needed, plan.needed);
  all += difference("rows", {".row", ".choice"}, view.rows, plan.rows);
  all += difference(
      "blocks",
      {".group", ".source", ".block", ".needed_begin", ".needed_end", ".tile_begin", ".tile_end"},
      view.blocks, plan.blocks);
  all += difference("group_blocks", {""}, view.group_blocks, plan.group_blocks);
  all += difference("block_tiles", {""}, view.block_tiles, plan.block_tiles);
  all +=
      difference("token_sources_begin", {""}, view.token_sources_begin, plan.token_sources_begin);
  all += difference("token_sources", {""}, view.token_sources, plan.token_sources);
  all +=
      difference("block_sources_begin", {""}, view.block_sources_begin, plan.block_sources_begin);
  all += difference("block_sources", {""}, view.block_sources, plan.block_sources);
  all += difference("expert_rows", {""}, view.expert_rows, plan.expert_rows);
  return all;
}

// Builds the plan of `rank` in `memory` and compares.
std::string build_and_compare(const Routing& routing, std::int32_t rank, const DevicePlan& memory) {
  launch_build_plan(routing.device_problem(rank), memory.view(), {}, nullptr);
  check_cuda(cudaDeviceSynchronize(), "running the plan's kernels");
  return differences(memory.view(), routing.host_plan(rank));
}

TEST_F(PlanKernels, RandomPlansEqualTheHosts) {
  std::mt19937 random(20250117);
  for (int problem = 0; problem < 300; ++problem) {
    const RoutingShape shape = draw_shape(random);
    Routing routing(shape, random);
    std::vector<DevicePlan> memory;
    for (std::int32_t r = 0; r < routing.world(); ++r) memory.emplace_back(routing.limits(r));
    // The second call finds the first one's remains: other ids, other T.
    for (int call = 0; call < 2; ++call) {
      const auto draw = static_cast<Draw>(random() % 8 < 6 ? 0 : 1 + random() % 2);
      routing.redraw(random, draw, random() % 8 == 0);
      for (std::int32_t r = 0; r < routing.world(); ++r) {
        ASSERT_EQ(build_and_compare(routing, r, memory[r]), "")
            << "problem " << problem << ", call " << call << ": " << routing.describe(r);
      }
    }
  }
}

TEST_F(PlanKernels, ManyBlocksSegmentsAndChoices) {
  // Each past the threads of one piece: 560 blocks, 1600 segments, 400 experts, 9 home blocks. And
  // few tokens of so many experts that one kernel's shared memory has room for them, or has not.
  std::mt19937 random(3);
  for (const RoutingShape& shape :
       {RoutingShape{.ep = 8, .topk = 2, .num_experts = 9, .max_tokens = 4480},
        RoutingShape{.topk = 32, .num_experts = 400, .max_tokens = 550, .groups = 4},
        RoutingShape{.topk = 1, .num_experts = 3, .max_tokens = 33000, .groups = 3},
        RoutingShape{.topk = 4, .num_experts = 1500, .max_tokens = 40},
        RoutingShape{.topk = 4, .num_experts = 4000, .max_tokens = 40},
        RoutingShape{.ep = 40,
        .tp = 2,
        .topk = 6,
        .num_experts = 90,
        .max_tokens = 130,
        .block_m = 16,
        .groups = 2}}) {
    Routing routing(shape, random);
    for (const bool full : {true, false}) {
      routing.redraw(random, Draw::any, full);
      for (const std::int32_t rank : {0, routing.world() - 1}) {
        const DevicePlan memory(routing.limits(rank));
        ASSERT_EQ(build_and_compare(routing, rank, memory), "") << routing.describe(rank);
      }
    }
  }
}

TEST_F(PlanKernels, MemoryOfALargerPlanServesASmallerOne) {
  std::mt19937 random(4);
  const RoutingShape shape{.ep = 3, .topk = 3, .num_experts = 10, .max_tokens = 200, .groups = 2};
  Routing routing(shape, random);
  routing.redraw(random, Draw::any, false);
  PlanLimits limits = routing.limits(1);
  limits.max_tokens = 500;
  limits.topk = 8;
  limits.num_local = 30;
  limits.block_m = 16;
  limits.groups = 5;
  const DevicePlan memory(limits);
  EXPECT_EQ(build_and_compare(routing, 1, memory), "");
  limits.topk = 2;
  const DevicePlan small(limits);
  EXPECT_THROW(launch_build_plan(routing.device_problem(1), small.view(), {}, nullptr), Error);
}

// Median of 50 launches, in microseconds.
float time_plan(const RoutingShape& shape) {
  std::mt19937 random(5);
  Routing routing(shape, random);
  routing.redraw(random, Draw::any, true);
  const DevicePlan memory(routing.limits(0));
  EXPECT_EQ(build_and_compare(routing, 0, memory), "");
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreate(&stream), "creating a stream");
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check_cuda(cudaEventCreate(&begin), "creating an event");
  check_cuda(cudaEventCreate(&end), "creating an event");
  std::vector<float> times_us;
  for (int i = 0; i < 60; ++i) {
    check_cuda(cudaEventRecord(begin, stream), "recording an event");
    launch_build_plan(routing.device_problem(0), memory.view(), {}, stream);
    check_cuda(cudaEventRecord(end, stream), "recording an event");
    check_cuda(cudaEventSynchronize(end), "running the plan's kernels");
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, begin, end), "timing the plan's kernels");
    if (i >= 10) times_us.push_back(ms * 1000);  // the first ones warm up
  }
  check_cuda(cudaEventDestroy(begin), "destroying an event");
  check_cuda(cudaEventDestroy(end), "destroying an event");
  check_cuda(cudaStreamDestroy(stream), "destroying a stream");
  std::nth_element(times_us.begin(), times_us.begin() + 25, times_us.end());
  return times_us[25];
}

TEST_F(PlanKernels, TimeOfAPlan) {
  for (const RoutingShape& shape :
       {RoutingShape{.ep = 8, .topk = 8, .num_experts = 64, .max_tokens = 4096, .block_m = 128},
        RoutingShape{.topk = 8, .num_experts = 128, .max_tokens = 1, .block_m = 64}}) {
    const float time_us = time_plan(shape);
    fmt::print("plan of {} ranks x {} tokens, topk {}, {} experts: {:.1f} us\n", shape.ep,
               shape.max_tokens, shape.topk, shape.num_experts, time_us);
    EXPECT_GT(time_us, 0);
  }
}

}  // namespace
}  // namespace comet::cuda
