// SPDX-License-Identifier: Apache-2.0
// Faults: ranks that are late, slow, stop or throw, in every phase of a call; who is named, when,
// and that the world recovers. COMET_RANDOM_STOPS sets the number of random stops (default 40),
// COMET_RANDOM_STOPS_SEED their seed, COMET_FAULT_TIMEOUT_MS the worlds' timeout for slow machines.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check/random_stop.hpp"
#include "comet/layer.hpp"
#include "conformance/number_from.hpp"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Probe = std::function<void(const ProbePoint&)>;

// ThreadSanitizer makes everything about ten times as slow; what is tested is the same.
#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kTimeoutMs = 800;
#else
constexpr std::uint64_t kTimeoutMs = 200;
#endif

constexpr TraceKind kPhases[] = {TraceKind::publish,     TraceKind::headers, TraceKind::plan,
                                 TraceKind::gather,      TraceKind::pull,    TraceKind::first_gemm,
                                 TraceKind::second_gemm, TraceKind::push,    TraceKind::home_sum,
                                 TraceKind::wait};

milliseconds timeout() { return milliseconds(number_from("COMET_FAULT_TIMEOUT_MS", kTimeoutMs)); }

/// Three ranks with full tokens, experts on all of them and two workers each, so that every phase
/// happens on every rank.
Case full_case(std::int64_t world_size = 3) {
  Case c = plain_case(world_size, 7);
  c.pattern = TokenPattern::full;
  return c;
}

void expect_stops(const StopCase& stop) {
  const CaseResult result = run_stop(stop, {.timeout = timeout()});
  EXPECT_TRUE(result.passed()) << describe(stop) << "\n  " << result.failure;
}

/// One rank with its layer, tokens and output, for tests that drive calls by hand.
class RankLayer {
 public:
  RankLayer(const Case& c, const CaseWeights& weights, const Calls& calls, World& world)
      : calls_(calls),
        rank_(world.rank()),
        layer_(MoeLayer::create(c.desc, c.parallel, weights.ranks[rank_].view, world,
                                c.options.at(rank_))) {}

  Bytes forward(std::int64_t call, const ForwardOptions& options = {}) {
    const RankCall& data = calls_[call][rank_];
    Bytes bytes(data.tokens * data.row_stride * size_of(data.dtype), kCanary);
    layer_->forward(data.x_view(), data.routing_view(),
                    {bytes.data(), data.tokens, data.hidden, data.row_stride, data.dtype}, options);
    return bytes;
  }

  /// What the call throws, or an empty string.
  std::string error_of(std::int64_t call, const ForwardOptions& options = {}) {
    try {
      forward(call, options);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  /// Calls until one throws, `most` at most.
  std::string error_within(int most, const ForwardOptions& options = {}) {
    std::string sentence;
    for (int call = 0; call < most && sentence.empty(); ++call) sentence = error_of(0, options);
    return sentence;
  }

 private:
  const Calls& calls_;
  const int rank_;
  std::unique_ptr<MoeLayer> layer_;
};

/// Runs `body` on all ranks of a world with two calls' tokens of `c`.
void run_ranks(const Case& c, milliseconds limit,
               const std::function<void(RankLayer&, World&)>& body) {
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_call(c, 0), make_call(c, 1)};
  run_local_world(static_cast<int>(c.world_size()), {.link = c.link, .timeout = limit},
                  [&](World& world) {
                    RankLayer layer(c, weights, calls, world);
                    body(layer, world);
                  });
}

// ---------------------------------------------------------------- no faults

TEST(Faults, ASlowRankIsNone) {
  for (const Schedule schedule : {Schedule::sequential, Schedule::pipelined, Schedule::comet}) {
    run_ranks(full_case(), timeout(), [&](RankLayer& layer, World& world) {
      const Bytes expected = layer.forward(0);
      ForwardOptions options{.schedule = schedule};
      auto count = std::make_shared<std::atomic<int>>(0);
      options.probe = [count](const ProbePoint& at) {
        if (at.rank == 1) std::this_thread::sleep_for(milliseconds(1 + count->fetch_add(1) % 4));
      };
      for (int call = 0; call < 3; ++call) {
        EXPECT_EQ(layer.forward(0, options), expected)
            << to_string(schedule) << " call " << call << " rank " << world.rank();
      }
    });
  }
}

TEST(Faults, ASecondOfLaunchSkewIsNone) {
  run_ranks(full_case(4), milliseconds(10'000), [&](RankLayer& layer, World& world) {
    const Bytes expected = layer.forward(0);
    if (world.rank() == 2) std::this_thread::sleep_for(milliseconds(1000));
    EXPECT_EQ(layer.forward(0), expected) << "rank " << world.rank();
  });
}

// ---------------------------------------------------------------- stops

class StopsInPhase : public testing::TestWithParam<Schedule> {};

TEST_P(StopsInPhase, AWorkerThatBlocksIsNamed) {
  int rank = 0;
  for (const int worker : {0, 1}) {  // of two workers the last one communicates
    for (const TraceKind phase : kPhases) {
      const bool only_worker_0 = phase == TraceKind::publish || phase == TraceKind::headers ||
                                 phase == TraceKind::plan || GetParam() == Schedule::sequential;
      if (worker == 1 && only_worker_0) continue;  // to sequential all workers are alike
      rank = (rank + 1) % 3;
      expect_stops({full_case(), GetParam(), {{StopKind::blocks, phase, rank, worker}}});
    }
  }
}

TEST_P(StopsInPhase, AWorkerThatThrowsIsNamed) {
  int rank = 0;
  for (const int worker : {0, 1}) {
    for (const TraceKind phase : kPhases) {
      rank = (rank + 1) % 3;
      expect_stops({full_case(), GetParam(), {{StopKind::throws, phase, rank, worker}}});
    }
  }
}

TEST_P(StopsInPhase, ALoneWorkerThatBlocksIsNamed) {
  Case c = full_case();
  for (LayerOptions& options : c.options) options.num_workers = 1;
  for (const TraceKind phase : {TraceKind::plan, TraceKind::first_gemm, TraceKind::home_sum}) {
    expect_stops({c, GetParam(), {{StopKind::blocks, phase, 0}}});
  }
}

TEST_P(StopsInPhase, ARankThatStaysAwayIsNamed) {
  const int rank = GetParam() == Schedule::comet ? 0 : 2;
  expect_stops({full_case(), GetParam(), {{.kind = StopKind::stays_away, .rank = rank}}});
}

INSTANTIATE_TEST_SUITE_P(Schedules, StopsInPhase,
                         testing::Values(Schedule::sequential, Schedule::pipelined,
                                         Schedule::comet),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(Faults, ReferenceNamesTheRankToo) {
  expect_stops({full_case(),
                Schedule::reference,
                {{StopKind::blocks, TraceKind::publish, 1},
                 {StopKind::blocks, TraceKind::headers, 0},
                 {StopKind::throws, TraceKind::headers, 2},
                 {.kind = StopKind::stays_away, .rank = 1}}});
}

TEST(Faults, OneWorldRecoversAgainAndAgain) {
  expect_stops({full_case(4),
                Schedule::comet,
                {{StopKind::blocks, TraceKind::first_gemm, 1},
                 {StopKind::throws, TraceKind::push, 2},
                 {StopKind::blocks, TraceKind::publish, 0},
                 {.kind = StopKind::stays_away, .rank = 3},
                 {StopKind::throws, TraceKind::headers, 1},
                 {StopKind::blocks, TraceKind::home_sum, 2}}});
}

TEST(Faults, PacedLinksRecoverToo) {
  Case c = full_case();
  c.link = {.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 0.01};
  expect_stops({c,
                Schedule::comet,
                {{StopKind::blocks, TraceKind::pull, 1}, {StopKind::throws, TraceKind::push, 0}}});
}

TEST(Faults, RandomStops) {
  const std::uint64_t count = number_from("COMET_RANDOM_STOPS", 40);
  const std::uint64_t seed = number_from("COMET_RANDOM_STOPS_SEED", 1);
  for (std::uint64_t index = 0; index < count; ++index) {
    const StopCase stop = random_stop(seed, index);
    SCOPED_TRACE(fmt::format("stop {} of seed {}", index, seed));
    expect_stops(stop);
  }
}

// ---------------------------------------------------------------- who is named

TEST(Faults, ARankThatLeavesIsNamed) {
  std::vector<std::string> sentences(3);
  EXPECT_THROW(run_ranks(full_case(), timeout(),
                         [&](RankLayer& layer, World& world) {
                           layer.forward(0);
                           if (world.rank() == 1) return;  // no error, just no more calls
                           sentences[world.rank()] = layer.error_within(2);
                           layer.forward(0);
                         }),
               Error);
  EXPECT_EQ(sentences[0], sentences[2]);
  EXPECT_TRUE(sentences[0].ends_with("cause: rank 1, not in a call since call 1")) << sentences[0];
}

// Experts 0 to 2 on ranks 0 to 2; one worker each, so that who stops can't report itself.
Case chain_case() {
  Case c = full_case();
  c.desc.num_experts = 3;
  c.desc.topk = 1;
  for (LayerOptions& options : c.options) options.num_workers = 1;
  return c;
}

// Rank 0 needs nobody and rank 1 needs rank 2.
std::vector<RankCall> make_chain_call(const Case& c) {
  std::vector<RankCall> call = make_call(c);
  for (int rank = 0; rank < 3; ++rank) {
    for (std::int64_t i = 0; i < c.desc.max_tokens; ++i) {
      call[rank].set_id(i, rank == 1 ? 2 : rank);
    }
  }
  return call;
}

// When rank 0 has come to the next call and waits for rank 1's header, it must name rank 2.
TEST(Faults, AChainOfWaitsEndsAtTheRankThatStopped) {
  const milliseconds limit = 3 * timeout();
  const Case c = chain_case();
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_chain_call(c)};
  std::latch noticed(2);
  std::vector<std::string> sentences(3);
  run_local_world(3, {.timeout = limit}, [&](World& world) {
    RankLayer layer(c, weights, calls, world);
    std::atomic<bool> fired = false;
    ForwardOptions options;
    options.probe = [&](const ProbePoint& at) {
      if (at.rank == 2 && at.phase == TraceKind::first_gemm && !fired.exchange(true)) {
        noticed.wait();
      }
      // Delays rank 1's own wait, so that rank 0's expires first.
      if (at.rank == 1 && at.phase == TraceKind::plan) std::this_thread::sleep_for(limit / 3);
    };
    sentences[world.rank()] = layer.error_within(2, options);
    if (world.rank() != 2) noticed.count_down();
    world.recover();
    EXPECT_EQ(layer.error_of(0), "");
  });
  EXPECT_EQ(sentences[0], sentences[1]);
  EXPECT_EQ(sentences[0], sentences[2]);
  EXPECT_TRUE(sentences[0].starts_with("[publish] rank 0 waited")) << sentences[0];
  EXPECT_NE(sentences[0].find("for rank 1 to enter call 2"), std::string::npos) << sentences[0];
  EXPECT_TRUE(sentences[0].ends_with("cause: rank 2, in dispatch_gemm of call 1")) << sentences[0];
}

// Rank 1 has waited for rank 2 and has got what it wanted when it stops: what it told of its wait
// must not point to rank 2.
TEST(Faults, ARankThatStopsAfterAWaitIsNamed) {
  const milliseconds limit = 3 * timeout();
  const Case c = chain_case();
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_chain_call(c)};
  std::latch noticed(1);
  std::vector<std::string> sentences(3);
  run_local_world(3, {.timeout = limit}, [&](World& world) {
    RankLayer layer(c, weights, calls, world);
    std::atomic<bool> fired = false;
    ForwardOptions options;
    options.probe = [&](const ProbePoint& at) {
      if (at.rank == 2 && at.phase == TraceKind::plan) std::this_thread::sleep_for(limit / 2);
      if (at.rank == 1 && at.phase == TraceKind::home_sum && !fired.exchange(true)) noticed.wait();
    };
    if (world.rank() == 2) {
      layer.forward(0, options);
      noticed.wait();
      options.probe = {};
    }
    sentences[world.rank()] = layer.error_within(2, options);
    if (world.rank() == 0) noticed.count_down();
    world.recover();
    EXPECT_EQ(layer.error_of(0), "");
  });
  EXPECT_EQ(sentences[0], sentences[1]);
  EXPECT_EQ(sentences[0], sentences[2]);
  EXPECT_TRUE(sentences[0].ends_with("cause: rank 1, in gemm_combine of call 1")) << sentences[0];
}

// Rank 0 needs nobody and goes on to a barrier, where ranks 1 and 2 are missing.
TEST(Faults, ABarrierNamesTheRankThatHoldsUpTheOthers) {
  const milliseconds limit = 3 * timeout();
  const Case c = chain_case();
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_chain_call(c)};
  std::latch noticed(2);
  std::vector<std::string> sentences(3);
  run_local_world(3, {.timeout = limit}, [&](World& world) {
    RankLayer layer(c, weights, calls, world);
    ForwardOptions options;
    options.probe = [&](const ProbePoint& at) {
      if (at.rank == 2 && at.phase == TraceKind::plan) noticed.wait();
      if (at.rank == 1 && at.phase == TraceKind::plan) std::this_thread::sleep_for(limit / 3);
    };
    try {
      layer.forward(0, options);
      world.barrier();
    } catch (const Error& error) {
      sentences[world.rank()] = error.what();
    }
    if (world.rank() != 2) noticed.count_down();
    world.recover();
    world.barrier();
    EXPECT_EQ(layer.error_of(0), "");
  });
  EXPECT_EQ(sentences[0], sentences[1]);
  EXPECT_EQ(sentences[0], sentences[2]);
  EXPECT_TRUE(sentences[0].starts_with("[world] rank 0 waited")) << sentences[0];
  EXPECT_TRUE(sentences[0].ends_with("for ranks 1, 2; cause: rank 2, in plan of call 1"))
      << sentences[0];
}

// ---------------------------------------------------------------- what is thrown

TEST(Faults, WhateverAProbeThrowsFailsTheWorld) {
  const auto throw_error = [] { throw Error(ErrorCode::io, "planted error"); };
  const auto throw_number = [] { throw 42; };
  for (const TraceKind phase : {TraceKind::publish, TraceKind::plan, TraceKind::first_gemm}) {
    for (const std::function<void()>& planted :
         {std::function<void()>(throw_error), std::function<void()>(throw_number)}) {
      std::vector<std::string> sentences(3);
      run_ranks(full_case(), timeout(), [&](RankLayer& layer, World& world) {
        const Bytes expected = layer.forward(0);
        world.barrier();  // the good call of all ranks is over
        ForwardOptions options;
        options.probe = [&](const ProbePoint& at) {
          if (at.rank == 1 && at.phase == phase) planted();
        };
        sentences[world.rank()] = layer.error_within(2, options);
        world.recover();
        EXPECT_EQ(layer.forward(0), expected) << "rank " << world.rank();
      });
      EXPECT_EQ(sentences[0], sentences[1]);
      EXPECT_EQ(sentences[0], sentences[2]);
      EXPECT_NE(sentences[0].find("rank 1"), std::string::npos) << sentences[0];
      EXPECT_TRUE(sentences[0].ends_with("planted error") ||
                  sentences[0].ends_with("unknown exception"))
          << sentences[0];
    }
  }
}

TEST(Faults, CodesSayWhoseFaultItIs) {
  std::vector<ErrorCode> codes(3, ErrorCode::format);
  run_ranks(full_case(), timeout(), [&](RankLayer& layer, World& world) {
    ForwardOptions options;
    options.probe = [](const ProbePoint& at) {
      if (at.rank == 2 && at.phase == TraceKind::push) throw std::runtime_error("planted");
    };
    try {
      for (int call = 0; call < 2; ++call) layer.forward(0, options);
    } catch (const Error& error) {
      codes[world.rank()] = error.code();
    }
    world.recover();
  });
  EXPECT_EQ(codes, (std::vector{ErrorCode::peer, ErrorCode::peer, ErrorCode::internal}));
}

// ---------------------------------------------------------------- recovery

TEST(Faults, RecoverNamesAMissingRankAndMayBeCalledAgain) {
  std::latch gave_up(2);
  run_ranks(full_case(), timeout(), [&](RankLayer& layer, World& world) {
    const Bytes expected = layer.forward(1);
    ForwardOptions options;
    options.probe = [&](const ProbePoint& at) {
      if (at.rank == 2 && at.phase == TraceKind::headers) gave_up.wait();
    };
    const std::string sentence = layer.error_within(2, options);
    EXPECT_EQ(cause_in(sentence), 2) << sentence;
    if (world.rank() != 2) {
      const Clock::time_point start = Clock::now();
      try {
        world.recover();
        ADD_FAILURE() << "recovered without rank 2";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::timeout);
        EXPECT_TRUE(std::string(error.what()).ends_with("in recover for rank 2")) << error.what();
      }
      EXPECT_LT(Clock::now() - start, timeout() + milliseconds(1000));
      EXPECT_EQ(layer.error_of(0), sentence);  // still failed
      gave_up.count_down();
    }
    world.recover();
    EXPECT_EQ(layer.forward(1), expected) << "rank " << world.rank();
  });
}

TEST(Faults, RecoverOnAGoodWorldIsABarrier) {
  run_ranks(full_case(), timeout(), [&](RankLayer& layer, World& world) {
    for (int round = 0; round < 5; ++round) {
      const Bytes first = layer.forward(0);
      world.recover();
      EXPECT_EQ(layer.forward(0), first) << "round " << round << " rank " << world.rank();
    }
  });
}

// A layer whose creation fails must not spoil the older one that it shares its workspace with.
TEST(Faults, AFailedCreationLeavesTheSharedWorkspaceGood) {
  const Case small = full_case();
  Case large = small;
  large.desc.max_tokens = 150;
  const CaseWeights weights = make_weights(small);
  const std::vector<RankCall> calls = make_call(small);
  std::latch gave_up(2);
  run_local_world(3, {.timeout = timeout()}, [&](World& world) {
    const int rank = world.rank();
    const auto create = [&](const Case& c, std::shared_ptr<Workspace> workspace) {
      LayerOptions options = c.options[rank];
      options.workspace = std::move(workspace);
      return MoeLayer::create(c.desc, c.parallel, weights.ranks[rank].view, world, options);
    };
    const auto layer = create(small, nullptr);
    const auto forward = [&](MoeLayer& callee) {
      const RankCall& call = calls[rank];
      Bytes bytes(call.tokens * call.row_stride * size_of(call.dtype), kCanary);
      callee.forward(call.x_view(), call.routing_view(),
                     {bytes.data(), call.tokens, call.hidden, call.row_stride, call.dtype});
      return bytes;
    };
    const Bytes expected = forward(*layer);
    if (rank != 1) {
      EXPECT_THROW(create(large, layer->workspace()), Error);
      gave_up.count_down();
    } else {
      gave_up.wait();
    }
    world.recover();
    EXPECT_EQ(forward(*layer), expected) << "rank " << rank;
    const std::int64_t small_bytes = layer->workspace_bytes();
    const auto second = create(large, layer->workspace());
    EXPECT_GT(second->workspace_bytes(), small_bytes);
    EXPECT_EQ(forward(*second), expected) << "rank " << rank;
    EXPECT_EQ(forward(*layer), expected) << "rank " << rank;
    world.barrier();  // no rank destroys its layer while another is in a call
  });
}

}  // namespace
}  // namespace comet
