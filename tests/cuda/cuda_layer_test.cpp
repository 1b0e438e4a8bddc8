// SPDX-License-Identifier: Apache-2.0
// A layer on GPUs as its users call it: streams, graphs, errors after the fact.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "check/oracle.hpp"
#include "check/rng.hpp"
#include "comet/layer.hpp"
#include "comm/world_view.hpp"
#include "cuda/gpu_test.hpp"
#include "layer/rank_memory.hpp"

namespace comet::cuda {
namespace {

// Of a layer that copies tokens beside its plan: more than a megabyte of them.
constexpr std::int64_t kManyTokens = 1100;

// One layer's numbers on the host: whole experts, and each rank's tokens.
struct HostLayer {
  MoeDesc desc{.num_experts = 8,
               .topk = 2,
               .hidden = 520,
               .intermediate = 264,
               .max_tokens = 150,
               .dtype = DType::bf16};
  std::vector<bf16> gate, up, down;
  struct Rank {
    std::vector<bf16> x;
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
  };
  std::vector<Rank> ranks;

  explicit HostLayer(int world, std::int64_t max_tokens = 150) {
    desc.max_tokens = max_tokens;
    Rng rng(7);
    const auto values = [&](std::int64_t count, float scale) {
      std::vector<bf16> v(static_cast<std::size_t>(count));
      for (bf16& value : v) value = to_bf16(scale * rng.symmetric());
      return v;
    };
    const std::int64_t size = desc.num_experts * desc.hidden * desc.intermediate;
    gate = values(size, 0.1F);
    up = values(size, 0.1F);
    down = values(size, 0.1F);
    for (int r = 0; r < world; ++r) {
      Rank rank{values(desc.max_tokens * desc.hidden, 1.0F), {}, {}};
      for (std::int64_t i = 0; i < desc.max_tokens * desc.topk; ++i) {
        rank.ids.push_back(static_cast<std::int32_t>(rng.between(-1, desc.num_experts - 1)));
        rank.weights.push_back(rng.unit());
      }
      ranks.push_back(std::move(rank));
    }
  }
};

// A layer with EP = world, and one rank's inputs on its GPU.
struct DeviceLayer {
  DeviceLayer(const HostLayer& of, World& on, const LayerOptions& options = {})
      : host(of), world(on), memory(on), tokens(of.desc.max_tokens) {
    const MoeDesc& desc = host.desc;
    const ParallelDesc parallel{.ep = world.size()};
    const auto experts = local_experts(desc, parallel, world.rank());
    const std::int64_t size = desc.hidden * desc.intermediate;
    const auto place = [&](const std::vector<bf16>& whole) {
      return memory.place(whole.data() + (experts.empty() ? 0 : experts.front() * size),
                          static_cast<std::int64_t>(experts.size()) * size * 2);
    };
    MoeWeights weights;
    weights.gate = {.base = place(host.gate), .expert_stride = size, .row_stride = desc.hidden};
    weights.up = {.base = place(host.up), .expert_stride = size, .row_stride = desc.hidden};
    weights.down = {
        .base = place(host.down), .expert_stride = size, .row_stride = desc.intermediate};
    layer = MoeLayer::create(desc, parallel, weights, world, options);
    const HostLayer::Rank& rank = host.ranks.at(world.rank());
    x = memory.place(rank.x.data(), std::ssize(rank.x) * 2);
    ids = memory.place(rank.ids.data(), std::ssize(rank.ids) * 4);
    topk_weights = memory.place(rank.weights.data(), std::ssize(rank.weights) * 4);
    y = memory.reserve(std::ssize(rank.x) * 2);
  }

  // compute-sanitizer holds up a host's calls while any kernel runs: ranks then meet before calls.
  void meet() {
    if (std::getenv("COMET_LOCKSTEP") != nullptr) world.barrier();
  }

  void forward(const ForwardOptions& options, const std::int32_t* device_tokens = nullptr) {
    meet();
    const std::int64_t hidden = host.desc.hidden;
    RoutingView routing{ids, topk_weights, tokens};
    routing.device_tokens = device_tokens;
    layer->forward({x, tokens, hidden, hidden, DType::bf16}, routing,
                   {y, tokens, hidden, hidden, DType::bf16}, options);
  }

  std::vector<bf16> result() {
    std::vector<bf16> values(static_cast<std::size_t>(tokens * host.desc.hidden));
    memory.download(values.data(), y, std::ssize(values) * 2);
    return values;
  }

  // Compares the first `count` tokens with the oracle.
  void expect_good(std::int64_t count) {
    const HostLayer::Rank& rank = host.ranks.at(world.rank());
    const std::int64_t hidden = host.desc.hidden;
    const OracleResult truth =
        run_oracle(host.desc, {host.gate.data(), host.up.data(), host.down.data()},
                   {rank.x.data(), count, hidden, hidden, DType::bf16},
                   {rank.ids.data(), rank.weights.data(), count}, {.tp = 1, .rounds_rows = true});
    const std::vector<bf16> got = result();
    for (std::int64_t i = 0; i < count * hidden; ++i) {
      const double error = std::abs(static_cast<double>(to_float(got[i])) - truth.y[i]);
      if (error <= truth.bound[i]) continue;
      ADD_FAILURE() << "rank " << world.rank() << ": token " << i / hidden << ", column "
                    << i % hidden << ": " << to_float(got[i]) << ", expected " << truth.y[i]
                    << " within " << truth.bound[i];
      return;
    }
  }

  const HostLayer& host;
  World& world;
  RankMemory memory;
  std::int64_t tokens;
  std::unique_ptr<MoeLayer> layer;
  const void* x = nullptr;
  const void* ids = nullptr;
  const void* topk_weights = nullptr;
  void* y = nullptr;
};

bool same(const std::vector<bf16>& a, const std::vector<bf16>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 2) == 0;
}

void run_on(int world, const std::function<void(World&)>& body, const LinkSpec& link = {},
            std::chrono::milliseconds timeout = std::chrono::milliseconds(5000)) {
  run_local_world(world, {.link = link, .backend = Backend::cuda, .timeout = timeout}, body);
}

TEST(CudaLayer, SmallSequentialIsTheOracles) {
  COMET_NEEDS_GPU();
  for (const int world : {1, 2, 3, 8}) {
    const HostLayer host(world);
    run_on(world, [&](World& ranks) {
      DeviceLayer layer(host, ranks);
      for (int call = 0; call < 3; ++call) {
        layer.forward({.schedule = Schedule::sequential});
        const CallStats stats = layer.layer->check();
        EXPECT_GT(stats.t_layer_us, 0);
        layer.expect_good(layer.tokens);
      }
    });
  }
}

// Its own peer: what tools that serialise kernels, racecheck and profilers, can run.
TEST(CudaLayer, SmallOneRankRunsByItself) {
  COMET_NEEDS_GPU();
  for (const std::int64_t tokens : {std::int64_t{150}, kManyTokens}) {
    const HostLayer host(1, tokens);
    run_on(1, [&](World& ranks) {
      DeviceLayer layer(host, ranks, {.max_rows = 8192});
      for (const ForwardOptions& options :
           {ForwardOptions{.schedule = Schedule::sequential, .panel = 256},
            ForwardOptions{.schedule = Schedule::pipelined, .groups = 3, .n_c_dispatch = 2}}) {
        layer.forward(options);
        layer.layer->check();
        layer.expect_good(150);
      }
    });
  }
}

TEST(CudaLayer, SmallPipelinedHasTheBitsOfSequential) {
  COMET_NEEDS_GPU();
  for (const int world : {1, 4}) {
    const HostLayer host(world);
    run_on(world, [&](World& ranks) {
      DeviceLayer layer(host, ranks);
      layer.forward({.schedule = Schedule::sequential});
      layer.layer->check();
      const std::vector<bf16> expected = layer.result();
      for (const std::int64_t chunks : {1, 2, 4, 8}) {
        layer.forward({.schedule = Schedule::pipelined, .groups = chunks, .n_c_dispatch = 2});
        layer.layer->check();
        EXPECT_TRUE(same(layer.result(), expected)) << chunks << " chunks";
      }
    });
  }
}

// Partial sums about as small as bfloat16 has any, whether they are y or are summed at home.
TEST(CudaLayer, SmallSumsThatVanishArePlusZero) {
  COMET_NEEDS_GPU();
  for (const int world : {1, 2}) {
    HostLayer host(world);
    for (HostLayer::Rank& rank : host.ranks) {
      for (float& weight : rank.weights) weight = std::ldexp(1.0F, -133);
    }
    run_on(world, [&](World& ranks) {
      DeviceLayer layer(host, ranks);
      for (const auto schedule : {Schedule::sequential, Schedule::pipelined, Schedule::comet}) {
        layer.forward({.schedule = schedule});
        layer.layer->check();
        std::int64_t zeros = 0;
        std::int64_t subnormals = 0;
        for (const bf16 value : layer.result()) {
          ASSERT_NE(value.bits, 0x8000) << "-0";
          ++(value.bits == 0 ? zeros : subnormals);
        }
        EXPECT_GT(zeros, subnormals);
        EXPECT_GT(subnormals, 0);
      }
    });
  }
}

// Schedules that a copy of x beside the plan is joined to in other ways.
std::vector<ForwardOptions> schedules() {
  return {{.schedule = Schedule::sequential},
          {.schedule = Schedule::pipelined, .groups = 4, .n_c_dispatch = 2},
          {.schedule = Schedule::comet}};
}

void expect_replays(const HostLayer& host, const std::vector<ForwardOptions>& kinds,
                    const std::vector<std::int32_t>& counts) {
  run_on(2, [&](World& ranks) {
    DeviceLayer layer(host, ranks);
    auto* tokens = static_cast<std::int32_t*>(layer.memory.reserve(4));
    for (const ForwardOptions& options : kinds) {
      const auto graph = ranks.view().device->capture([&] { layer.forward(options, tokens); });
      for (const std::int32_t count : counts) {
        layer.memory.upload(tokens, &count, 4);
        layer.meet();
        graph->launch();
        const CallStats stats = layer.layer->check();
        EXPECT_GT(stats.t_layer_us, 0);
        layer.expect_good(count);
      }
    }
  });
}

TEST(CudaLayer, SmallGraphReplaysWithAnotherNumberOfTokens) {
  COMET_NEEDS_GPU();
  const std::vector<ForwardOptions> kinds = schedules();
  expect_replays(HostLayer(2), {kinds[0], kinds[1]}, {150, 0, 1, 77, 150});
}

TEST(CudaLayer, GraphOfManyTokensReplaysWithAnotherNumber) {
  COMET_NEEDS_GPU();
  expect_replays(HostLayer(2, kManyTokens), schedules(), {1100, 0, 1, 200});
}

void expect_fault_is_thrown_by_all(const HostLayer& host, Schedule schedule) {
  run_on(3, [&](World& ranks) {
    DeviceLayer layer(host, ranks);
    const std::int32_t bad = 8;
    const std::int32_t good = host.ranks[1].ids[5];
    auto* ids = static_cast<std::int32_t*>(const_cast<void*>(layer.ids));
    if (ranks.rank() == 1) layer.memory.upload(ids + 5, &bad, 4);
    layer.forward({.schedule = schedule});
    try {
      layer.layer->check();
      ADD_FAILURE() << "rank " << ranks.rank() << " threw nothing";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_range);
      EXPECT_STREQ(error.what(), "[publish] rank 1: topk_ids[2, 1] = 8, allowed -1 to 7");
    }
    for (const bf16 value : layer.result()) ASSERT_TRUE(std::isnan(to_float(value)));
    if (ranks.rank() == 1) layer.memory.upload(ids + 5, &good, 4);
    layer.forward({.schedule = schedule});
    layer.layer->check();
    layer.expect_good(150);
  });
}

TEST(CudaLayer, SmallFaultOfOneRankIsThrownByAll) {
  COMET_NEEDS_GPU();
  expect_fault_is_thrown_by_all(HostLayer(3), Schedule::sequential);
}

TEST(CudaLayer, FaultOfOneRankWithManyTokensIsThrownByAll) {
  COMET_NEEDS_GPU();
  const HostLayer host(3, kManyTokens);
  for (const Schedule schedule : {Schedule::sequential, Schedule::pipelined, Schedule::comet}) {
    expect_fault_is_thrown_by_all(host, schedule);
  }
}

// One layer copies its tokens beside the plan, the other does not; neither keeps the other waiting.
TEST(CudaLayer, LayersThatDifferBetweenRanksAreAnErrorOfAll) {
  COMET_NEEDS_GPU();
  const HostLayer few(3);
  const HostLayer many(3, kManyTokens);
  run_on(3, [&](World& ranks) {
    DeviceLayer large(many, ranks);
    DeviceLayer small(few, ranks, {.workspace = large.layer->workspace()});
    for (int odd = 0; odd < 3; ++odd) {
      for (const bool is_odd_small : {true, false}) {
        DeviceLayer& layer = (ranks.rank() == odd) == is_odd_small ? small : large;
        layer.forward({.schedule = Schedule::sequential});
        try {
          layer.layer->check();
          ADD_FAILURE() << "rank " << ranks.rank() << " threw nothing";
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::mismatch) << error.what();
        }
      }
    }
    large.forward({.schedule = Schedule::comet});
    large.layer->check();
    large.expect_good(150);
  });
}

void expect_absent_rank_is_named(const HostLayer& host) {
  run_on(
      3,
      [&](World& ranks) {
        DeviceLayer layer(host, ranks);
        if (ranks.rank() == 2) {
          std::this_thread::sleep_for(std::chrono::milliseconds(900));
        } else {
          layer.forward({.schedule = Schedule::sequential});
          try {
            layer.layer->check();
            ADD_FAILURE() << "rank " << ranks.rank() << " threw nothing";
          } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::timeout);
            EXPECT_NE(std::string(error.what()).find("for rank 2 to enter its call"),
                      std::string::npos)
                << error.what();
            EXPECT_NE(std::string(error.what()).find("cause: rank 2"), std::string::npos)
                << error.what();
          }
        }
        ranks.recover();
        layer.forward({.schedule = Schedule::sequential});
        layer.layer->check();
        layer.expect_good(150);
      },
      {}, std::chrono::milliseconds(600));
}

TEST(CudaLayer, ARankThatStaysAwayIsNamedAndTheWorldRecovers) {
  COMET_NEEDS_GPU();
  expect_absent_rank_is_named(HostLayer(3));
  expect_absent_rank_is_named(HostLayer(3, kManyTokens));
}

// Rank 0's x lies in host memory, at odd places, so that its copy takes far longer than the plan,
// and is another in each call: a rank that did not wait for it would compute with tokens of the
// call before.
TEST(CudaLayer, TokensThatComeAfterThePlanAreWaitedFor) {
  COMET_NEEDS_GPU();
  for (const int world : {1, 2, 4}) {
    const HostLayer host(world, 8192);
    const std::vector<bf16>& first = host.ranks[0].x;
    std::vector<bf16> second = first;
    for (bf16& value : second) value = to_bf16(-to_float(value));
    run_on(world, [&](World& ranks) {
      DeviceLayer layer(host, ranks);
      DeviceRank& device = *ranks.view().device;
      const std::size_t bytes = first.size() * 2;
      std::byte* const x = device.allocate_pinned(static_cast<std::int64_t>(bytes) + 2) + 2;
      if (ranks.rank() == 0) layer.x = x;
      ranks.barrier();  // no rank allocates while another's kernels wait for it
      const auto run = [&](bool is_second, const std::function<void()>& queue) {
        std::memcpy(x, (is_second ? second : first).data(), bytes);
        queue();
        layer.layer->check();
        return layer.result();
      };
      // What a call before has left in the workspace is the same x.
      const auto queue_quiet = [&] { layer.forward({.schedule = Schedule::sequential}); };
      std::vector<bf16> expected[2];
      for (const bool is_second : {true, false}) {
        run(is_second, queue_quiet);
        expected[is_second ? 1 : 0] = run(is_second, queue_quiet);
      }
      layer.expect_good(64);
      EXPECT_EQ(same(expected[0], expected[1]), ranks.rank() != 0);
      for (const ForwardOptions& options : schedules()) {
        const auto graph = device.capture([&] { layer.forward(options); });
        for (int call = 0; call < 8; ++call) {
          const bool is_second = call % 2 == 0;
          const bool is_graph = call >= 4;
          const std::vector<bf16> got = run(is_second, [&] {
            if (!is_graph) return layer.forward(options);
            layer.meet();
            graph->launch();
          });
          EXPECT_TRUE(same(got, expected[is_second ? 1 : 0]))
              << to_string(options.schedule) << ", call " << call << ", rank " << ranks.rank()
              << " of " << world;
        }
      }
    });
  }
}

TEST(CudaLayer, SmallLinksGiveTheSameBits) {
  COMET_NEEDS_GPU();
  const HostLayer host(4);
  std::vector<std::vector<bf16>> expected(4);
  for (const char* link : {"native", "paced:0.5", "host"}) {
    run_on(
        4,
        [&](World& ranks) {
          // Kernels read host memory in other ways, and far fewer threads at a time look at it.
          EXPECT_EQ(ranks.view().device->world().host_link, std::string_view(link) == "host");
          DeviceLayer layer(host, ranks);
          layer.forward({.schedule = Schedule::sequential});
          const CallStats stats = layer.layer->check();
          auto& of_rank = expected[static_cast<std::size_t>(ranks.rank())];
          if (of_rank.empty()) of_rank = layer.result();
          EXPECT_TRUE(same(layer.result(), of_rank)) << link;
          if (std::string_view(link) == "paced:0.5") {
            const double link_us =
                static_cast<double>(stats.dispatch_bytes_in + stats.combine_bytes_in) / 500.0;
            EXPECT_GE(stats.t_layer_us, link_us);
          }
          layer.forward({.schedule = Schedule::comet});
          layer.layer->check();
          EXPECT_TRUE(same(layer.result(), of_rank)) << link << ", fused";
        },
        parse_link(link));
  }
}

// Dispatch as a stage of its own moves nothing but bare transfers.
TEST(CudaLayer, PacedTransfersKeepTheRateWithinThreePercent) {
  COMET_NEEDS_GPU();
  constexpr double kBytesPerUs = 50;  // 0.05 GB/s
  const HostLayer host(4);
  run_on(
      4,
      [&](World& ranks) {
        DeviceLayer layer(host, ranks);
        for (int call = 0; call < 3; ++call) {
          layer.forward({.schedule = Schedule::sequential});
          const CallStats stats = layer.layer->check();
          struct Report {
            double dispatch_us, bytes;
          };
          const std::int64_t row_bytes = host.desc.hidden * 2;
          const std::int64_t tokens =
              std::max(stats.dispatch_bytes_in, stats.dispatch_bytes_out) / row_bytes;
          const Report mine{stats.t_dispatch_us,
                            static_cast<double>(tokens * (row_bytes + host.desc.topk * 4))};
          std::vector<Report> all(4);
          ranks.all_gather(&mine, all.data(), sizeof(Report));
          double slowest_us = 0;
          double most_bytes = 0;
          for (const Report& of_rank : all) {
            slowest_us = std::max(slowest_us, of_rank.dispatch_us);
            most_bytes = std::max(most_bytes, of_rank.bytes);
          }
          EXPECT_NEAR(slowest_us / (most_bytes / kBytesPerUs), 1.0, 0.03);
        }
      },
      parse_link("paced:0.05"));
}

TEST(CudaLayer, SmallCapacityIsAnErrorOfAllRanks) {
  COMET_NEEDS_GPU();
  const HostLayer host(2);
  run_on(2, [&](World& ranks) {
    DeviceLayer layer(host, ranks, {.block_m = 128, .max_rows = 256});
    layer.forward({.schedule = Schedule::sequential});
    try {
      layer.layer->check();
      ADD_FAILURE() << "rank " << ranks.rank() << " threw nothing";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::capacity);
      EXPECT_NE(std::string(error.what()).find("needs 512 rows (whole tiles of 128)"),
                std::string::npos)
          << error.what();
    }
  });
}

}  // namespace
}  // namespace comet::cuda
