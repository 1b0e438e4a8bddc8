// SPDX-License-Identifier: Apache-2.0
// One suite for every backend and world. COMET_CONFORMANCE_CASES sets the number of random cases
// (default 300), COMET_CONFORMANCE_SEED their seed; a failure prints both and its coordinates.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "check/run_checks.hpp"
#include "check/run_fault.hpp"
#include "check/verdict.hpp"
#include "comet/layer.hpp"
#include "conformance/number_from.hpp"

namespace comet {
namespace {

struct Target {
  const char* backend;
  const char* world;
  WorldRunner runner;
};

void PrintTo(const Target& target, std::ostream* stream) {
  *stream << target.backend << " on " << target.world;
}

std::uint64_t seed() { return number_from("COMET_CONFORMANCE_SEED", 1); }

class Conformance : public testing::TestWithParam<Target> {
 protected:
  CaseOptions options() const {
    CaseOptions result;
    result.world = GetParam().runner;
    return result;
  }

  void expect_passes(const Case& c) const {
    const CaseResult result = run_case(c, options());
    EXPECT_TRUE(result.passed()) << describe(c) << "\n  " << result.failure;
  }

  /// By pure EP, pure TP and, for 4 and 6 ranks, both.
  void expect_passes_split(Case c) const {
    const std::int64_t world = c.world_size();
    for (std::int64_t tp = 1; tp <= world; ++tp) {
      if (world % tp != 0) continue;
      set_parallel(c, {.ep = world / tp, .tp = tp});
      expect_passes(c);
    }
  }

  void expect_checks(const CheckOptions& checks) const {
    const CheckSummary summary = run_checks(checks);
    for (const CheckFailure& failure : summary.failures) {
      ADD_FAILURE() << failure.case_line << "\n  " << failure.sentence;
    }
    EXPECT_TRUE(summary.stopped || summary.cases == checks.cases);
    RecordProperty("worst_ratio", fmt::format("{:.3f}", summary.worst_ratio));
  }
};

// ---------------------------------------------------------------- random cases

TEST_P(Conformance, RandomCases) {
  CheckOptions checks;
  checks.cases = static_cast<std::int64_t>(number_from("COMET_CONFORMANCE_CASES", 300));
  checks.seed = seed();
  checks.run = options();
  expect_checks(checks);
}

TEST_P(Conformance, OneWorkerPerRank) {
  for (std::uint64_t i = 0; i < 40; ++i) {
    Case c = random_case(seed() + 1, i);
    for (LayerOptions& rank : c.options) rank.num_workers = 1;
    expect_passes(c);
  }
}

TEST_P(Conformance, HundredthCall) {
  for (const std::int64_t world : {1, 3, 4}) {
    Case c = plain_case(world, seed());
    c.options[0].num_workers = 3;
    c.delays = world == 3 ? DelayKind::jitter : DelayKind::none;
    const CaseResult result = run_many_calls(c, 100, options());
    EXPECT_TRUE(result.passed()) << describe(c) << "\n  " << result.failure;
  }
}

TEST_P(Conformance, ManyCallsOfRandomCases) {
  CheckOptions checks;
  checks.cases = 12;
  checks.calls = 12;
  checks.seed = seed() + 2;
  checks.run = options();
  expect_checks(checks);
}

// ---------------------------------------------------------------- faults

TEST_P(Conformance, FaultsReachAllRanksAndLeaveTheWorldGood) {
  for (const Fault fault : faults_of(Backend::cpu)) {
    for (const IdType id_type : {IdType::i32, IdType::i64}) {
      Case c = plain_case(4, seed());
      set_parallel(c, {.ep = 2, .tp = 2});
      c.index = static_cast<std::uint64_t>(fault);  // another faulty rank for each
      c.id_type = id_type;
      const CaseResult result = run_fault(c, fault, options());
      EXPECT_TRUE(result.passed())
          << to_string(fault) << ": " << describe(c) << "\n  " << result.failure;
    }
  }
}

TEST_P(Conformance, FaultsInAWorldOfOne) {
  for (const Fault fault : faults_of(Backend::cpu)) {
    const CaseResult result = run_fault(plain_case(1, seed()), fault, options());
    EXPECT_TRUE(result.passed()) << to_string(fault) << ": " << result.failure;
  }
}

// One forward call per run of the plain case `c`, all by the same options on all ranks.
Outputs run_plain(const Case& c, const std::vector<Run>& runs, const WorldRunner& world) {
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_call(c)};
  return execute({c, weights, calls, runs, world});
}

TEST_P(Conformance, OptionsThatDifferBetweenRanksAreAnErrorOnAll) {
  const Case c = plain_case(3, seed());
  comet::Run good = make_run(c, Schedule::sequential, 0), bad = make_run(c, Schedule::comet, 1);
  bad.options[1].groups = bad.options[0].groups + 1;
  const Outputs outputs = run_plain(c, {good, bad, good}, GetParam().runner);
  for (int rank = 0; rank < 3; ++rank) {
    ASSERT_TRUE(outputs[1][rank].error.has_value()) << "rank " << rank;
    EXPECT_EQ(outputs[1][rank].error->code, ErrorCode::mismatch)
        << outputs[1][rank].error->sentence;
    EXPECT_EQ(outputs[1][rank].error->sentence, outputs[1][0].error->sentence);
    EXPECT_FALSE(outputs[2][rank].error.has_value());
    EXPECT_EQ(outputs[2][rank].y, outputs[0][rank].y) << "rank " << rank;
  }
}

// Largest number of rows that a rank gets, each expert's rounded up to whole tiles.
std::int64_t rows_needed(const Case& c) {
  std::vector<std::int64_t> counts(c.desc.num_experts, 0);
  for (const RankCall& call : make_call(c)) {
    for (std::int64_t i = 0; i < call.tokens * c.desc.topk; ++i) {
      if (call.routing_view().id(i) >= 0) ++counts[call.routing_view().id(i)];
    }
  }
  std::vector<std::int64_t> rows(c.parallel.ep, 0);
  const std::vector<std::int32_t> owners = expert_owners(c.desc, c.parallel);
  const std::int64_t block_m = c.options[0].block_m;
  for (std::int64_t e = 0; e < c.desc.num_experts; ++e) {
    rows[owners[e]] += (counts[e] + block_m - 1) / block_m * block_m;
  }
  return *std::max_element(rows.begin(), rows.end());
}

TEST_P(Conformance, MaxRowsOverflow) {
  Case c = plain_case(3, seed());
  c.pattern = TokenPattern::full;
  c.routing = RoutingKind::skewed;
  const std::int64_t needed = rows_needed(c);
  const auto with_max_rows = [&](std::int64_t max_rows) {
    for (LayerOptions& rank : c.options) rank.max_rows = max_rows;
    // One group: each group has tiles of its own, and so other needs.
    ForwardOptions one_group;
    const comet::Run comet = make_run(c, Schedule::comet, 1, one_group);
    return run_plain(c, {make_run(c, Schedule::sequential, 0, one_group), comet},
                     GetParam().runner);
  };
  const Outputs fitting = with_max_rows(needed);
  const Outputs small = with_max_rows(needed - c.options[0].block_m);
  for (std::size_t run = 0; run < 2; ++run) {
    for (std::size_t rank = 0; rank < 3; ++rank) {
      EXPECT_FALSE(fitting[run][rank].error.has_value());
      ASSERT_TRUE(small[run][rank].error.has_value()) << "run " << run << " rank " << rank;
      const RunError& error = *small[run][rank].error;
      EXPECT_EQ(error.code, ErrorCode::capacity) << error.sentence;
      EXPECT_EQ(error.sentence, small[run][0].error->sentence);
      EXPECT_NE(error.sentence.find(std::to_string(needed)), std::string::npos)
          << error.sentence << "; needed " << needed;
    }
  }
}

// ---------------------------------------------------------------- the suite itself

// A wrong engine is played by other inputs: one weight of one token of rank 1, in one run, is off.
TEST_P(Conformance, AWrongWeightIsSeenByBitsAndByTheOracle) {
  Case c = plain_case(3, seed());
  c.pattern = TokenPattern::full;
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_call(c)};
  RankCall wrong = calls[0][1];
  const std::int64_t entry = 7 * c.desc.topk;  // of token 7
  wrong.set_weight(entry, wrong.weight(entry) + 0.1F);
  comet::Run right = make_run(c, Schedule::sequential, 0), off = make_run(c, Schedule::comet, 1);
  off.spoil = [&](int rank, ConstMatrixView&, RoutingView& routing, MatrixView&) {
    if (rank == 1) routing.weights = wrong.weights.data();
  };
  const Outputs outputs = execute({c, weights, calls, {right, off}, GetParam().runner});
  std::vector<OracleResult> truth;
  for (const RankCall& call : calls[0]) {
    truth.push_back(run_oracle(c.desc, weights.oracle(), call.x_view(), call.routing_view()));
  }
  double worst = 0;
  EXPECT_EQ(judge_truth(right, calls[0], outputs[0], truth, worst), "");
  EXPECT_LT(worst, 1.0);
  for (const std::string& failure :
       {judge_truth(off, calls[0], outputs[1], truth, worst),
        judge_equal(off, calls[0], outputs[1], outputs[0], right.label)}) {
    EXPECT_NE(failure.find("rank 1 token 7 column "), std::string::npos) << failure;
  }
}

// ---------------------------------------------------------------- functions

TEST_P(Conformance, EveryActivationLayoutWeightPositionAndType) {
  Case c = plain_case(2, seed());
  set_parallel(c, {.ep = 1, .tp = 2});
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto activation : {Activation::silu, Activation::gelu, Activation::relu}) {
      for (const auto position : {WeightPosition::after_down, WeightPosition::before_down}) {
        for (const auto layout : {GateLayout::gate_up, GateLayout::up_gate, GateLayout::interleaved,
                                  GateLayout::none}) {
          c.desc.dtype = dtype;
          c.desc.activation = activation;
          c.desc.weight_position = position;
          c.desc.gated = layout != GateLayout::none;
          c.gate_layout = layout;
          expect_passes(c);
        }
      }
    }
  }
}

TEST_P(Conformance, ListWeights) {
  Case c = plain_case(4, seed());
  c.form = WeightForm::listed;
  for (const auto layout : {GateLayout::gate_up, GateLayout::up_gate, GateLayout::interleaved}) {
    c.gate_layout = layout;
    expect_passes_split(c);
  }
}

TEST_P(Conformance, SeparatePaddedWeights) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Case c = plain_case(4, seed());
    c.form = WeightForm::separate;
    c.desc.dtype = dtype;
    expect_passes_split(c);
  }
}

// ---------------------------------------------------------------- corners

TEST_P(Conformance, RanksWithoutTokens) {
  for (const auto pattern : {TokenPattern::one_rank, TokenPattern::none}) {
    Case c = plain_case(4, seed());
    c.pattern = pattern;
    expect_passes_split(c);
  }
}

TEST_P(Conformance, AllToOneExpert) {
  Case c = plain_case(4, seed());
  c.routing = RoutingKind::one_expert;
  c.pattern = TokenPattern::full;
  expect_passes_split(c);
}

TEST_P(Conformance, ExpertsWithoutTokens) {
  Case c = plain_case(4, seed());
  c.desc.num_experts = 16;
  c.routing = RoutingKind::empty_experts;
  expect_passes_split(c);
}

TEST_P(Conformance, MoreRanksThanExperts) {
  Case c = plain_case(6, seed());
  c.desc.num_experts = 2;
  expect_passes_split(c);
}

TEST_P(Conformance, DuplicateIds) {
  Case c = plain_case(4, seed());
  c.desc.topk = 5;
  c.routing = RoutingKind::duplicates;
  expect_passes_split(c);
}

TEST_P(Conformance, MoreChoicesThanExperts) {
  Case c = plain_case(4, seed());
  c.desc.num_experts = 3;
  c.desc.topk = 8;
  expect_passes_split(c);
}

TEST_P(Conformance, SomeDropped) {
  Case c = plain_case(4, seed());
  c.desc.topk = 4;
  c.routing = RoutingKind::some_dropped;
  expect_passes_split(c);
}

TEST_P(Conformance, AllDropped) {
  Case c = plain_case(4, seed());
  c.routing = RoutingKind::all_dropped;
  c.pattern = TokenPattern::full;
  expect_passes_split(c);
}

TEST_P(Conformance, OnlyLocalAndOnlyRemoteExperts) {
  for (const auto routing : {RoutingKind::local, RoutingKind::remote}) {
    Case c = plain_case(4, seed());
    c.routing = routing;
    expect_passes_split(c);
  }
}

TEST_P(Conformance, TokensNotMultiple) {
  Case c = plain_case(3, seed());
  c.pattern = TokenPattern::full;
  for (const std::int64_t tokens : {1, 63, 64, 65, 129}) {  // around the borders of groups
    c.desc.max_tokens = tokens;
    expect_passes(c);
  }
}

TEST_P(Conformance, NoTokensAtAllAllowed) {
  Case c = plain_case(3, seed());
  c.desc.max_tokens = 0;
  expect_passes(c);
}

TEST_P(Conformance, PlacementTable) {
  Case c = plain_case(4, seed());
  for (const std::vector<std::int32_t>& owner :
       {std::vector<std::int32_t>{3, 1, 3, 0, 1, 3}, std::vector<std::int32_t>(6, 2)}) {
    c.desc.expert_owner = owner;
    expect_passes(c);
  }
}

TEST_P(Conformance, Int64Ids) {
  Case c = plain_case(4, seed());
  c.id_type = IdType::i64;
  expect_passes_split(c);
}

TEST_P(Conformance, PaddedTokens) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Case c = plain_case(2, seed());
    c.desc.dtype = dtype;
    c.row_padding = 5;
    expect_passes(c);
  }
}

TEST_P(Conformance, WorldSizes) {
  for (const std::int64_t world : {1, 2, 3, 5, 6, 8})
    expect_passes_split(plain_case(world, seed()));
}

TEST_P(Conformance, PacedLink) {
  Case c = plain_case(4, seed());
  c.link = {.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 0.5};
  expect_passes_split(c);
}

TEST_P(Conformance, SlowRankAndJitter) {
  for (const auto delays : {DelayKind::jitter, DelayKind::slow_rank}) {
    Case c = plain_case(4, seed());
    c.delays = delays;
    expect_passes_split(c);
  }
}

// ---------------------------------------------------------------- layers side by side

// Runs `rounds` calls on two layers in turn, the second on the first one's workspace, or each on a
// world of its own if `alone`. Returns y [layer][round][rank].
using Shared = std::vector<std::vector<std::vector<Bytes>>>;
Shared run_two_layers(const Case (&cases)[2], int rounds, bool alone, const WorldRunner& world) {
  const auto size = static_cast<std::size_t>(cases[0].world_size());
  const CaseWeights weights[2] = {make_weights(cases[0]), make_weights(cases[1])};
  Shared y(2, std::vector<std::vector<Bytes>>(rounds, std::vector<Bytes>(size)));
  const auto call_layer = [&](MoeLayer& layer, int which, int round, int rank) {
    const Case& c = cases[which];
    const RankCall call = make_call(c, round)[rank];
    Bytes& out = y[which][round][rank];
    out.assign(call.tokens * call.row_stride * size_of(call.dtype), kCanary);
    ForwardOptions options;
    options.schedule = round % 2 == 0 ? Schedule::comet : Schedule::sequential;
    options.groups = 1 + round % 3;
    layer.forward(call.x_view(), call.routing_view(),
                  {out.data(), call.tokens, call.hidden, call.row_stride, call.dtype}, options);
  };
  const auto create = [&](World& w, int which, std::shared_ptr<Workspace> workspace) {
    const Case& c = cases[which];
    LayerOptions options = c.options[w.rank()];
    options.workspace = std::move(workspace);
    return MoeLayer::create(c.desc, c.parallel, weights[which].ranks[w.rank()].view, w, options);
  };
  if (alone) {
    for (int which = 0; which < 2; ++which) {
      world(static_cast<int>(size), {}, [&](World& w) {
        const auto layer = create(w, which, nullptr);
        for (int round = 0; round < rounds; ++round) call_layer(*layer, which, round, w.rank());
      });
    }
    return y;
  }
  world(static_cast<int>(size), {}, [&](World& w) {
    const auto first = create(w, 0, nullptr);
    const auto second = create(w, 1, first->workspace());
    for (int round = 0; round < rounds; ++round) {
      call_layer(*first, 0, round, w.rank());
      call_layer(*second, 1, round, w.rank());
    }
  });
  return y;
}

TEST_P(Conformance, SharedWorkspace) {
  // Two layers of one model (same shapes, other weights), and a second one that needs less.
  for (const bool smaller : {false, true}) {
    Case cases[2] = {plain_case(3, seed()), plain_case(3, seed() + 1)};
    if (smaller) {
      cases[1].desc.hidden = 16;
      cases[1].desc.topk = 1;
      cases[1].desc.num_experts = 5;
      cases[1].desc.max_tokens = 9;
    }
    const Shared shared = run_two_layers(cases, 8, false, GetParam().runner);
    const Shared alone = run_two_layers(cases, 8, true, GetParam().runner);
    for (int which = 0; which < 2; ++which) {
      for (int round = 0; round < 8; ++round) {
        for (int rank = 0; rank < 3; ++rank) {
          EXPECT_EQ(shared[which][round][rank], alone[which][round][rank])
              << "layer " << which << " round " << round << " rank " << rank;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Conformance,
                         testing::Values(Target{"cpu", "local", run_local_world}),
                         [](const auto& test) {
                           return fmt::format("{}_{}", test.param.backend, test.param.world);
                         });

}  // namespace
}  // namespace comet
