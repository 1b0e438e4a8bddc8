// SPDX-License-Identifier: Apache-2.0
// Layers on a GPU that 1 to 8 ranks share: against the oracle, against each other bit for bit, as
// graphs, and against the CPU. COMET_CONFORMANCE_CASES sets the number of random cases per world
// size (default 40), COMET_CONFORMANCE_SEED their seed; COMET_LOCKSTEP=1 lets
// ranks meet before each call, as compute-sanitizer needs. Tests named Small are for
// compute-sanitizer.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/element.hpp"
#include "check/random_stop.hpp"
#include "check/rank_data.hpp"
#include "check/run_case.hpp"
#include "check/run_fault.hpp"
#include "check/verdict.hpp"
#include "cuda/gpu_test.hpp"

namespace comet::cuda {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::uint64_t seed() { return number_from("COMET_CONFORMANCE_SEED", 1); }

int oracle_threads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 16U));
}

CaseOptions options() {
  CaseOptions result;
  result.oracle_threads = oracle_threads();
  result.lockstep = number_from("COMET_LOCKSTEP", 0) != 0;
  return result;
}

// Three panels, experts of two tiles of the first GEMM if TP is 1, two blocks of tokens.
Case wide_case(std::int64_t world_size) {
  Case c = plain_case(world_size, seed(), Backend::cuda);
  c.desc.topk = 3;
  c.desc.hidden = 520;
  c.desc.intermediate = 264;
  c.desc.max_tokens = 90;
  return c;
}

// Of more than a megabyte of tokens, which are copied beside the plan.
Case many_tokens_case(std::int64_t world_size) {
  Case c = wide_case(world_size);
  c.desc.max_tokens = 1100;
  return c;
}

// Items so long that the fused schedule's blocks take them up by twos, of tiles of 128 rows.
Case paired_case(std::int64_t world_size) {
  Case c = wide_case(world_size);
  c.desc.topk = 2;
  c.desc.hidden = 4104;
  c.desc.intermediate = 136;
  c.desc.max_tokens = 200;
  for (LayerOptions& rank : c.options) rank.block_m = 128;
  return c;
}

void expect_passes(const Case& c) {
  const CaseResult result = run_case(c, options());
  EXPECT_TRUE(result.passed()) << describe(c) << "\n  " << result.failure;
}

/// By pure EP, pure TP and both.
void expect_passes_split(Case c) {
  const std::int64_t world = c.world_size();
  for (std::int64_t tp = 1; tp <= world; ++tp) {
    if (world % tp != 0) continue;
    set_parallel(c, {.ep = world / tp, .tp = tp});
    expect_passes(c);
  }
}

class CudaConformance : public testing::Test {
 protected:
  void SetUp() override { COMET_NEEDS_GPU(); }
};

class CudaConformanceOf : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { COMET_NEEDS_GPU(); }
};

// ---------------------------------------------------------------- random cases

TEST_P(CudaConformanceOf, RandomCases) {
  const auto wanted = number_from("COMET_CONFORMANCE_CASES", 40);
  double worst_ratio = 0;
  std::uint64_t cases = 0;
  for (std::uint64_t index = 0; cases < wanted; ++index) {
    const Case c = random_case(seed(), index, Backend::cuda);
    if (c.world_size() != GetParam()) continue;
    ++cases;
    const CaseResult result = run_case(c, options());
    EXPECT_TRUE(result.passed()) << describe(c) << "\n  " << result.failure;
    worst_ratio = std::max(worst_ratio, result.worst_ratio);
    if (HasFailure() && cases >= 5) break;
  }
  RecordProperty("worst_ratio", fmt::format("{:.3f}", worst_ratio));
}

TEST_P(CudaConformanceOf, EverySplit) { expect_passes_split(wide_case(GetParam())); }

TEST_P(CudaConformanceOf, EverySplitOfLongItems) { expect_passes_split(paired_case(GetParam())); }

TEST_P(CudaConformanceOf, EverySplitOfManyTokens) {
  expect_passes_split(many_tokens_case(GetParam()));
}

TEST_P(CudaConformanceOf, RanksWithoutTokens) {
  for (const auto pattern : {TokenPattern::one_rank, TokenPattern::none}) {
    for (Case c : {wide_case(GetParam()), many_tokens_case(GetParam()), paired_case(GetParam())}) {
      c.pattern = pattern;
      expect_passes_split(c);
    }
  }
}

// The fused schedule by groups, placements, counts of communicating multiprocessors and waves, with
// the bits of `sequential`.
void expect_equal_bits_by_groups_and_placement(Case c) {
  c.pattern = TokenPattern::full;
  const std::int64_t world = c.world_size();
  for (const std::int64_t tp : {std::int64_t{1}, world}) {
    set_parallel(c, {.ep = world / tp, .tp = tp});
    const CaseWeights weights = make_weights(c);
    const Calls calls{make_call(c)};
    std::vector<comet::Run> runs{make_run(c, Schedule::sequential, 0)};
    for (const std::int64_t groups : {1, 2, 4}) {
      for (const auto placement : {Placement::warps, Placement::blocks}) {
        for (const int n_c : {-1, 1, 3, 1000}) {
          // Five, so that each number of multiprocessors, of which there are four, meets them all.
          const std::int64_t waves = std::array{0, 3, 1, 64, 2}[runs.size() % 5];
          comet::Run run = make_run(c, Schedule::comet, runs.size(), {.groups = groups});
          for (ForwardOptions& options : run.options) {
            options.placement = placement;
            options.n_c_dispatch = n_c;
            options.n_c_combine = n_c;
            options.waves = waves;
          }
          run.label = fmt::format("comet G {} {} n_c {} waves {}", groups, to_string(placement),
                                  n_c, waves);
          runs.push_back(run);
        }
      }
      runs.push_back(as_graph(runs.back(), 3));
    }
    const Outputs outputs = execute({c, weights, calls, runs});
    for (std::size_t i = 1; i < runs.size(); ++i) {
      for (const RunOutput& output : outputs[i]) {
        ASSERT_FALSE(output.error.has_value()) << runs[i].label << ": " << output.error->sentence;
        EXPECT_EQ(output.difference, "") << runs[i].label;
      }
      EXPECT_EQ(judge_equal(runs[i], calls[0], outputs[i], outputs[0], runs[0].label), "")
          << describe(c);
    }
  }
}

TEST_P(CudaConformanceOf, EveryGroupCountAndPlacement) {
  Case c = wide_case(GetParam());
  c.desc.max_tokens = 200;  // tiles enough for phases
  expect_equal_bits_by_groups_and_placement(c);
}

TEST_P(CudaConformanceOf, EveryGroupCountAndPlacementOfLongItems) {
  Case c = paired_case(GetParam());
  c.desc.max_tokens = 400;
  expect_equal_bits_by_groups_and_placement(c);
}

INSTANTIATE_TEST_SUITE_P(Worlds, CudaConformanceOf, testing::Values(1, 2, 3, 4, 8),
                         [](const auto& test) { return fmt::format("W{}", test.param); });

// ---------------------------------------------------------------- kinds of cases

TEST_F(CudaConformance, EveryRoutingKind) {
  for (const auto routing :
       {RoutingKind::uniform, RoutingKind::skewed, RoutingKind::one_expert,
        RoutingKind::empty_experts, RoutingKind::some_dropped, RoutingKind::all_dropped,
        RoutingKind::duplicates, RoutingKind::local, RoutingKind::remote}) {
    for (const std::int64_t world : {1, 4}) {
      for (Case c : {wide_case(world), paired_case(world)}) {
        c.pattern = TokenPattern::full;
        c.routing = routing;
        expect_passes_split(c);
      }
    }
  }
}

TEST_F(CudaConformance, ExpertsWithoutTokensAndRanksWithoutExperts) {
  Case many = wide_case(4);
  many.desc.num_experts = 33;
  many.routing = RoutingKind::empty_experts;
  expect_passes_split(many);
  Case few = wide_case(8);
  few.desc.num_experts = 2;
  expect_passes_split(few);
  Case placed = wide_case(4);
  for (const std::vector<std::int32_t>& owner :
       {std::vector<std::int32_t>{3, 1, 3, 0, 1, 3}, std::vector<std::int32_t>(6, 2)}) {
    placed.desc.expert_owner = owner;
    expect_passes(placed);
  }
}

TEST_F(CudaConformance, TokensAroundTheBordersOfBlocks) {
  Case c = plain_case(3, seed(), Backend::cuda);
  c.pattern = TokenPattern::full;
  for (const std::int64_t tokens : {0, 1, 63, 64, 65, 129, 257}) {
    c.desc.max_tokens = tokens;
    expect_passes(c);
  }
}

TEST_F(CudaConformance, EveryFunctionAndType) {
  Case c = plain_case(2, seed(), Backend::cuda);
  set_parallel(c, {.ep = 1, .tp = 2});
  for (const DType dtype : {DType::bf16, DType::f16}) {
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

TEST_F(CudaConformance, WeightFormsIdsAndPadding) {
  for (const auto form : {WeightForm::fused, WeightForm::listed, WeightForm::separate}) {
    for (const std::int64_t padding : {0, 5, 8}) {
      Case c = wide_case(4);
      set_parallel(c, {.ep = 2, .tp = 2});
      c.form = form;
      c.row_padding = padding;
      c.id_type = padding == 5 ? IdType::i64 : IdType::i32;
      expect_passes(c);
    }
  }
}

TEST_F(CudaConformance, Links) {
  for (const auto kind : {LinkSpec::Kind::paced, LinkSpec::Kind::host}) {
    for (Case c : {wide_case(4), many_tokens_case(4)}) {
      c.link.kind = kind;
      if (kind == LinkSpec::Kind::paced) c.link.gigabytes_per_second = 0.5;
      expect_passes_split(c);
    }
  }
}

TEST_F(CudaConformance, SlowRankAndJitter) {
  for (const auto delays : {DelayKind::jitter, DelayKind::slow_rank}) {
    for (Case c : {wide_case(4), paired_case(4)}) {
      c.delays = delays;
      expect_passes_split(c);
    }
  }
}

TEST_F(CudaConformance, HundredthCall) {
  for (const std::int64_t world : {1, 3, 4}) {
    for (const Case& c : {plain_case(world, seed(), Backend::cuda), paired_case(world)}) {
      const CaseResult result = run_many_calls(c, 100, options());
      EXPECT_TRUE(result.passed()) << describe(c) << "\n  " << result.failure;
    }
  }
}

// ---------------------------------------------------------------- the CPU

std::vector<OracleResult> truth_of(const Case& c, const CaseWeights& weights,
                                   const std::vector<RankCall>& calls) {
  std::vector<OracleResult> truth;
  for (const RankCall& call : calls) {
    truth.push_back(run_oracle(c.desc, weights.oracle(), call.x_view(), call.routing_view(),
                               {.tp = c.parallel.tp,
                                .rounds_rows = c.backend == Backend::cuda,
                                .threads = oracle_threads()}));
  }
  return truth;
}

// The same numbers on the other backend.
Case on_cpu(Case c) {
  c.backend = Backend::cpu;
  c.delays = DelayKind::none;
  c.link = {};
  for (LayerOptions& rank : c.options) {
    rank.block_m = 64;
    rank.block_n = 256;
    rank.max_rows = 0;
  }
  return c;
}

TEST_F(CudaConformance, AgreesWithTheCpu) {
  int cases = 0;
  for (std::uint64_t index = 0; cases < 12; ++index) {
    const Case gpu = random_case(seed() + 3, index, Backend::cuda);
    if (gpu.desc.dtype != DType::bf16) continue;
    ++cases;
    const Case cpu = on_cpu(gpu);
    const CaseWeights gpu_weights = make_weights(gpu), cpu_weights = make_weights(cpu);
    const Calls calls{make_call(gpu)};
    const auto run = [&](const Case& c, const CaseWeights& weights) {
      return execute({c, weights, calls, {make_run(c, Schedule::sequential, 0)}})[0];
    };
    const auto got = run(gpu, gpu_weights), expected = run(cpu, cpu_weights);
    const auto gpu_truth = truth_of(gpu, gpu_weights, calls[0]);
    const auto cpu_truth = truth_of(cpu, cpu_weights, calls[0]);
    for (std::size_t rank = 0; rank < got.size(); ++rank) {
      const RankCall& call = calls[0][rank];
      ASSERT_FALSE(got[rank].error.has_value()) << got[rank].error->sentence;
      ASSERT_FALSE(expected[rank].error.has_value()) << expected[rank].error->sentence;
      for (std::int64_t i = 0; i < call.tokens * call.hidden; ++i) {
        const std::int64_t at = i / call.hidden * call.row_stride + i % call.hidden;
        const double ours = load_element(got[rank].y.data(), at, call.dtype);
        const double theirs = load_element(expected[rank].y.data(), at, call.dtype);
        ASSERT_LE(std::abs(ours - theirs), gpu_truth[rank].bound[i] + cpu_truth[rank].bound[i])
            << describe(gpu) << "\n  rank " << rank << " token " << i / call.hidden << " column "
            << i % call.hidden << ": " << ours << ", on cpu " << theirs;
      }
    }
  }
}

// ---------------------------------------------------------------- faults

void expect_fault_passes(const Case& c, Fault fault) {
  const CaseResult result = run_fault(c, fault, options());
  EXPECT_TRUE(result.passed()) << to_string(fault) << ": " << describe(c) << "\n  "
                               << result.failure;
}

TEST_F(CudaConformance, FaultsReachAllRanksAndLeaveTheWorldGood) {
  for (const Fault fault : faults_of(Backend::cuda)) {
    for (const IdType id_type : {IdType::i32, IdType::i64}) {
      Case c = plain_case(4, seed(), Backend::cuda);
      set_parallel(c, {.ep = 2, .tp = 2});
      c.index = static_cast<std::uint64_t>(fault);  // another faulty rank for each
      c.id_type = id_type;
      expect_fault_passes(c, fault);
    }
  }
}

TEST_F(CudaConformance, FaultsOfManyTokensReachAllRanks) {
  for (const Fault fault : faults_of(Backend::cuda)) {
    Case c = many_tokens_case(4);
    set_parallel(c, {.ep = 2, .tp = 2});
    c.index = static_cast<std::uint64_t>(fault);
    expect_fault_passes(c, fault);
  }
}

TEST_F(CudaConformance, FaultsInAWorldOfOne) {
  for (const Fault fault : faults_of(Backend::cuda)) {
    expect_fault_passes(plain_case(1, seed(), Backend::cuda), fault);
  }
}

// Runs 0 and 2 of `outputs` are the same good call, run 1 must throw `code` alike on all ranks.
void expect_error_between(const Outputs& outputs, ErrorCode code, const std::string& part) {
  for (std::size_t rank = 0; rank < outputs[0].size(); ++rank) {
    ASSERT_TRUE(outputs[1][rank].error.has_value()) << "rank " << rank;
    const RunError& error = *outputs[1][rank].error;
    EXPECT_EQ(error.code, code) << "rank " << rank << ": " << error.sentence;
    EXPECT_EQ(error.sentence, outputs[1][0].error->sentence) << "rank " << rank;
    EXPECT_NE(error.sentence.find(part), std::string::npos) << error.sentence;
    for (const std::size_t good : {0U, 2U}) {
      ASSERT_FALSE(outputs[good][rank].error.has_value()) << outputs[good][rank].error->sentence;
    }
    EXPECT_EQ(outputs[2][rank].y, outputs[0][rank].y) << "rank " << rank;
  }
}

Outputs run_calls(const Case& c, const Calls& calls, const std::vector<comet::Run>& runs) {
  const CaseWeights weights = make_weights(c);
  return execute({c, weights, calls, runs});
}

TEST_F(CudaConformance, OptionsThatDifferBetweenRanksAreAnErrorOnAll) {
  for (const Case& c : {plain_case(3, seed(), Backend::cuda), many_tokens_case(3)}) {
    const comet::Run good = make_run(c, Schedule::sequential, 0);
    comet::Run bad = make_run(c, Schedule::pipelined, 1, {.groups = 2});
    bad.options[1].groups = 3;
    expect_error_between(run_calls(c, {make_call(c)}, {good, bad, good}), ErrorCode::mismatch,
                         "ranks 0 and 1 run different layers");
  }
}

TEST_F(CudaConformance, OptionsOutsideTheirLimitsAreAnErrorOnAll) {
  const Case c = plain_case(3, seed(), Backend::cuda);
  const comet::Run good = make_run(c, Schedule::sequential, 0);
  const Outputs outputs = run_calls(
      c, {make_call(c)}, {good, make_run(c, Schedule::pipelined, 1, {.groups = 9}), good});
  expect_error_between(outputs, ErrorCode::invalid_argument, "groups is 9");
  comet::Run bad = make_run(c, Schedule::comet, 1);
  for (ForwardOptions& options : bad.options) options.waves = 65;
  expect_error_between(run_calls(c, {make_call(c)}, {good, bad, good}), ErrorCode::invalid_argument,
                       "waves is 65, allowed 0 to 64");
  expect_error_between(
      run_calls(c, {make_call(c)}, {good, make_run(c, Schedule::reference, 1), good}),
      ErrorCode::unsupported, "reference");
}

// Largest number of rows that a rank gets of one group, each expert's rounded up to whole tiles.
std::int64_t rows_needed(const Case& c, const std::vector<RankCall>& calls) {
  std::vector<std::int64_t> counts(c.desc.num_experts, 0);
  for (const RankCall& call : calls) {
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

// Call 0 has few tokens, call 1 needs exactly `needed` rows, plain and as a graph.
TEST_F(CudaConformance, MaxRowsThatAreTooFewAreAnErrorOnAllRanks) {
  Case c = plain_case(3, seed(), Backend::cuda);
  c.desc.max_tokens = 200;
  c.routing = RoutingKind::skewed;
  const Calls calls{make_call_of(c, 0, {1, 2, 3}), make_call_of(c, 1, {200, 200, 200})};
  const std::int64_t needed = rows_needed(c, calls[1]);
  ASSERT_GE(needed - c.options[0].block_m, rows_needed(c, calls[0]));
  for (const Schedule schedule : schedules_of(Backend::cuda)) {
    for (const bool is_graph : {false, true}) {
      const comet::Run few = make_run(c, schedule, 0, {.groups = 1});
      comet::Run many = make_run(c, schedule, 1, {.groups = 1});
      if (is_graph) many = as_graph(many, 2);
      many.call = 1;
      for (LayerOptions& rank : c.options) rank.max_rows = needed;
      const Outputs fitting = run_calls(c, calls, {few, many, few});
      for (const RunOutput& output : fitting[1]) {
        EXPECT_FALSE(output.error.has_value()) << output.error->sentence;
        EXPECT_EQ(output.difference, "");
      }
      for (LayerOptions& rank : c.options) rank.max_rows = needed - rank.block_m;
      const Outputs small = run_calls(c, calls, {few, many, few});
      expect_error_between(small, ErrorCode::capacity, fmt::format("needs {} rows", needed));
      for (std::int64_t rank = 0; rank < 3; ++rank) {
        EXPECT_EQ(judge_nan({many.label, rank}, calls[1][rank], small[1][rank]), "");
      }
    }
  }
}

// ---------------------------------------------------------------- ranks that fail or share

/// One rank with its layer and data, for tests that drive calls by hand.
class RankLayer {
 public:
  RankLayer(const Case& c, const CaseWeights& weights, const Calls& calls, World& world,
            std::shared_ptr<Workspace> workspace = {})
      : rank_(world.rank()), calls_(calls), data_(c, weights, calls, world) {
    LayerOptions layer_options = c.options.at(rank_);
    layer_options.workspace = std::move(workspace);
    layer_ = MoeLayer::create(c.desc, c.parallel, data_.weights(), world, layer_options);
  }

  Bytes forward(std::int64_t call, const ForwardOptions& forward_options) {
    const RankCall& own = calls_[call][rank_];
    Bytes y(own.tokens * own.row_stride * size_of(own.dtype), kCanary);
    const CallArguments arguments = data_.arguments(call, y);
    data_.begin(y);
    layer_->forward(arguments.x, arguments.routing, arguments.y, forward_options);
    layer_->check();
    data_.end(y);
    return y;
  }

  /// What the call throws, or an empty string.
  std::string error_of(std::int64_t call, const ForwardOptions& forward_options) {
    try {
      forward(call, forward_options);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  std::shared_ptr<Workspace> workspace() const { return layer_->workspace(); }

 private:
  const int rank_;
  const Calls& calls_;
  RankData data_;
  std::unique_ptr<MoeLayer> layer_;
};

// Ranks come at different times, perhaps later than the others may wait.
void recover(World& world) {
  for (const Clock::time_point start = Clock::now();;) {
    try {
      return world.recover();
    } catch (const Error&) {
      if (Clock::now() - start > std::chrono::seconds(5)) throw;
    }
  }
}

void expect_absence_is_named(Case c, Schedule schedule, milliseconds timeout) {
  const std::int64_t world_size = c.world_size();
  c.pattern = TokenPattern::full;
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_call(c, 0)};
  const ForwardOptions call_options{.schedule = schedule, .groups = 2};
  std::vector<std::string> sentences(world_size);
  std::unique_ptr<std::latch> gave_up;
  run_local_world(
      static_cast<int>(world_size), {.backend = Backend::cuda, .timeout = timeout},
      [&](World& world) {
        RankLayer layer(c, weights, calls, world);
        const Bytes expected = layer.forward(0, call_options);
        // Two in a row, since the first recovery may leave something behind.
        for (int absent = 0; absent < 2; ++absent) {
          world.barrier();
          if (world.rank() == 0) gave_up = std::make_unique<std::latch>(world_size - 1);
          world.barrier();
          if (world.rank() == absent) {
            gave_up->wait();
          } else {
            const Clock::time_point start = Clock::now();
            sentences[world.rank()] = layer.error_of(0, call_options);
            EXPECT_LT(Clock::now() - start, timeout + milliseconds(1000));
            EXPECT_EQ(layer.error_of(0, call_options), sentences[world.rank()]) << "still failed";
            gave_up->count_down();
          }
          recover(world);
          EXPECT_EQ(layer.forward(0, call_options), expected) << "rank " << world.rank();
          world.barrier();
          if (world.rank() != absent) {
            const std::string& sentence = sentences[world.rank()];
            EXPECT_EQ(sentence, sentences[absent == 0 ? 1 : 0]);
            EXPECT_TRUE(sentence.starts_with("[publish] rank ")) << sentence;
            EXPECT_NE(sentence.find(fmt::format("waited {} ms", timeout.count())),
                      std::string::npos)
                << sentence;
            EXPECT_EQ(cause_in(sentence), absent) << sentence;
          }
          world.barrier();
        }
      });
}

TEST_F(CudaConformance, ARankThatStaysAwayIsNamedAndTheWorldRecovers) {
  for (const Schedule schedule : schedules_of(Backend::cuda)) {
    expect_absence_is_named(plain_case(3, seed(), Backend::cuda), schedule, milliseconds(300));
    expect_absence_is_named(paired_case(3), schedule, milliseconds(300));
  }
}

TEST_F(CudaConformance, ASlowRankIsNoFault) {
  Case c = plain_case(3, seed(), Backend::cuda);
  c.pattern = TokenPattern::full;
  const CaseWeights weights = make_weights(c);
  const Calls calls{make_call(c, 0)};
  for (const auto schedule : {Schedule::pipelined, Schedule::comet}) {
    run_local_world(3, {.backend = Backend::cuda, .timeout = milliseconds(10'000)},
                    [&](World& world) {
                      RankLayer layer(c, weights, calls, world);
                      ForwardOptions call_options{.schedule = schedule, .groups = 4};
                      const Bytes expected = layer.forward(0, call_options);
                      call_options.probe = [](const ProbePoint& at) {
                        if (at.rank == 1) std::this_thread::sleep_for(milliseconds(100));
                      };
                      for (int call = 0; call < 3; ++call) {
                        EXPECT_EQ(layer.forward(0, call_options), expected)
                            << "call " << call << " rank " << world.rank();
                      }
                    });
  }
}

// y [layer][round][rank] of two layers that take turns, the second on the first one's workspace, or
// each in a world of its own.
using Turns = std::vector<std::vector<std::vector<Bytes>>>;
Turns take_turns(const Case (&cases)[2], bool alone) {
  constexpr int kRounds = 6;
  const auto size = static_cast<int>(cases[0].world_size());
  const CaseWeights weights[2] = {make_weights(cases[0]), make_weights(cases[1])};
  Calls calls[2];
  for (int which = 0; which < 2; ++which) {
    for (int round = 0; round < kRounds; ++round) {
      calls[which].push_back(make_call(cases[which], round));
    }
  }
  Turns y(2, std::vector<std::vector<Bytes>>(kRounds, std::vector<Bytes>(size)));
  const auto call = [&](RankLayer& layer, int which, int round, int rank) {
    constexpr Schedule kTurns[] = {Schedule::comet, Schedule::pipelined, Schedule::sequential};
    const ForwardOptions call_options{.schedule = kTurns[round % 3], .groups = 1 + round % 4};
    y[which][round][rank] = layer.forward(round, call_options);
  };
  const LocalWorldOptions world_options{.backend = Backend::cuda};
  for (int which = 0; alone && which < 2; ++which) {
    run_local_world(size, world_options, [&](World& world) {
      RankLayer layer(cases[which], weights[which], calls[which], world);
      for (int round = 0; round < kRounds; ++round) call(layer, which, round, world.rank());
    });
  }
  if (alone) return y;
  run_local_world(size, world_options, [&](World& world) {
    RankLayer first(cases[0], weights[0], calls[0], world);
    RankLayer second(cases[1], weights[1], calls[1], world, first.workspace());
    for (int round = 0; round < kRounds; ++round) {
      call(first, 0, round, world.rank());
      call(second, 1, round, world.rank());
    }
  });
  return y;
}

TEST_F(CudaConformance, LayersThatShareAWorkspace) {
  for (const std::int64_t hidden : {16, 32, 520}) {  // of the second: less, as much and more
    Case cases[2] = {plain_case(3, seed(), Backend::cuda),
                     plain_case(3, seed() + 1, Backend::cuda)};
    cases[1].desc.hidden = hidden;
    if (hidden == 16) cases[1].desc.max_tokens = 9;
    if (hidden == 520) cases[1].desc.max_tokens = 100;
    EXPECT_EQ(take_turns(cases, false), take_turns(cases, true)) << "H " << hidden;
  }
}

// ---------------------------------------------------------------- the suite itself

// A wrong engine is played by other inputs: one weight of one token of rank 1, in one run, is off.
TEST_F(CudaConformance, AWrongWeightIsSeenByBitsAndByTheOracle) {
  Case c = plain_case(3, seed(), Backend::cuda);
  c.pattern = TokenPattern::full;
  const CaseWeights weights = make_weights(c);
  Calls calls{make_call(c), make_call(c)};
  const std::int64_t entry = 7 * c.desc.topk;  // of token 7
  calls[1][1].set_weight(entry, calls[1][1].weight(entry) + 0.5F);
  comet::Run right = make_run(c, Schedule::sequential, 0), off = make_run(c, Schedule::comet, 1);
  off.call = 1;
  const Outputs outputs = execute({c, weights, calls, {right, off}});
  const std::vector<OracleResult> truth = truth_of(c, weights, calls[0]);
  double worst = 0;
  EXPECT_EQ(judge_truth(right, calls[0], outputs[0], truth, worst), "");
  EXPECT_LT(worst, 1.0);
  for (const std::string& failure :
       {judge_truth(off, calls[0], outputs[1], truth, worst),
        judge_equal(off, calls[0], outputs[1], outputs[0], right.label)}) {
    EXPECT_NE(failure.find("rank 1 token 7 column "), std::string::npos) << failure;
  }
}

// ---------------------------------------------------------------- for compute-sanitizer

TEST_F(CudaConformance, SmallOneRank) {
  Case c = plain_case(1, seed(), Backend::cuda);
  c.desc.max_tokens = 70;  // two blocks
  c.pattern = TokenPattern::full;
  c.routing = RoutingKind::some_dropped;
  for (const std::int64_t padding : {5, 8}) {
    c.row_padding = padding;
    expect_passes(c);
  }
}

TEST_F(CudaConformance, SmallPairs) {
  Case c = paired_case(2);
  c.desc.intermediate = 16;
  expect_passes(c);
}

TEST_F(CudaConformance, SmallFourRanks) {
  Case c = plain_case(4, seed(), Backend::cuda);
  set_parallel(c, {.ep = 2, .tp = 2});
  c.desc.dtype = DType::f16;
  c.routing = RoutingKind::some_dropped;
  for (LayerOptions& rank : c.options) rank.max_rows = 2000;
  expect_passes(c);
}

TEST_F(CudaConformance, SmallPacedLinkAndRanksWithoutExperts) {
  Case c = plain_case(3, seed(), Backend::cuda);
  c.desc.num_experts = 2;
  c.desc.max_tokens = 70;  // two blocks
  c.pattern = TokenPattern::full;
  c.link = {.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 1};
  expect_passes(c);
}

TEST_F(CudaConformance, SmallFaults) {
  for (const Fault fault : {Fault::id_negative, Fault::null_x, Fault::device_tokens}) {
    expect_fault_passes(plain_case(2, seed(), Backend::cuda), fault);
  }
}

TEST_F(CudaConformance, SmallAbsence) {
  const Case c = plain_case(2, seed(), Backend::cuda);
  expect_absence_is_named(c, Schedule::pipelined, milliseconds(1000));
  expect_absence_is_named(c, Schedule::comet, milliseconds(1000));
}

}  // namespace
}  // namespace comet::cuda
