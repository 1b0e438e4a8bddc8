// SPDX-License-Identifier: Apache-2.0
#include "check/run_fault.hpp"

#include <fmt/core.h>

#include "base/name_table.hpp"
#include "check/rng.hpp"
#include "check/verdict.hpp"

namespace comet {
namespace {

constexpr NameTable<Fault, 13> kFaultNames{{{Fault::too_many_tokens, "too_many_tokens"},
                                            {Fault::id_is_num_experts, "id_is_num_experts"},
                                            {Fault::id_negative, "id_negative"},
                                            {Fault::id_65535, "id_65535"},
                                            {Fault::id_wraps, "id_wraps"},
                                            {Fault::null_x, "null_x"},
                                            {Fault::null_ids, "null_ids"},
                                            {Fault::null_weights, "null_weights"},
                                            {Fault::null_y, "null_y"},
                                            {Fault::wrong_columns, "wrong_columns"},
                                            {Fault::wrong_dtype, "wrong_dtype"},
                                            {Fault::two_ranks, "two_ranks"},
                                            {Fault::device_tokens, "device_tokens"}}};

bool is_token_fault(Fault fault) {
  return fault == Fault::too_many_tokens || fault == Fault::two_ranks;
}

// The faulty call's data: the ranks in fault have too many tokens, or one bad id.
std::vector<RankCall> make_faulty_call(const Case& c, Fault fault, std::int64_t rank, Rng& rng) {
  std::vector<std::int64_t> tokens(c.world_size(), c.desc.max_tokens);
  if (is_token_fault(fault)) ++tokens[rank];
  if (fault == Fault::two_ranks) tokens[(rank + 1) % c.world_size()] = c.desc.max_tokens + 2;
  std::vector<RankCall> ranks = make_call_of(c, 1, tokens);
  const std::int64_t index = rng.between(0, tokens[rank] * c.desc.topk - 1);
  const std::int64_t wrapping = c.id_type == IdType::i32 ? 0x10000 : 0x100000000;
  if (fault == Fault::id_is_num_experts) ranks[rank].set_id(index, c.desc.num_experts);
  if (fault == Fault::id_negative) ranks[rank].set_id(index, -2);
  if (fault == Fault::id_65535) ranks[rank].set_id(index, 65535);
  if (fault == Fault::id_wraps) ranks[rank].set_id(index, wrapping);
  return ranks;
}

void spoil_views(Fault fault, ConstMatrixView& x, RoutingView& routing, MatrixView& y) {
  if (fault == Fault::null_x) x.data = nullptr;
  if (fault == Fault::null_ids) routing.ids = nullptr;
  if (fault == Fault::null_weights) routing.weights = nullptr;
  if (fault == Fault::null_y) y.data = nullptr;
  if (fault == Fault::wrong_columns) x.cols -= 8;
  if (fault == Fault::wrong_dtype) x.dtype = x.dtype == DType::f32 ? DType::bf16 : DType::f32;
}

// All ranks threw, the same sentence, with the faulty rank's code or `peer`, and got NaN.
std::string judge_fault(const Run& run, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs, std::int64_t faulty, bool has_y) {
  if (!outputs[faulty].error.has_value()) {
    return fmt::format("{}: rank {}, the faulty one, threw nothing", run.label, faulty);
  }
  const RunError& own = *outputs[faulty].error;
  for (std::size_t rank = 0; rank < outputs.size(); ++rank) {
    const RunOutput& output = outputs[rank];
    if (!output.difference.empty()) {
      return fmt::format("{}: rank {}: {}", run.label, rank, output.difference);
    }
    if (!output.error.has_value()) {
      return fmt::format("{}: rank {} threw nothing, rank {} threw: {}", run.label, rank, faulty,
                         own.sentence);
    }
    if (output.error->sentence != own.sentence) {
      return fmt::format("{}: rank {} threw '{}', rank {} threw '{}'", run.label, rank,
                         output.error->sentence, faulty, own.sentence);
    }
    if (output.error->code != own.code && output.error->code != ErrorCode::peer) {
      return fmt::format("{}: rank {} threw {}, rank {} threw {}: {}", run.label, rank,
                         to_string(output.error->code), faulty, to_string(own.code), own.sentence);
    }
    const auto r = static_cast<std::int64_t>(rank);
    if (r == faulty && !has_y) continue;
    std::string failure = judge_nan({run.label, r}, ranks[rank], output);
    if (!failure.empty()) return failure;
  }
  if (own.sentence.empty() || own.sentence.front() != '[') {
    return fmt::format("{}: sentence does not name its stage: '{}'", run.label, own.sentence);
  }
  return {};
}

}  // namespace

std::string_view to_string(Fault fault) noexcept { return name_of(kFaultNames, fault); }

std::span<const Fault> faults_of(Backend backend) noexcept {
  const std::span<const Fault> all(kFaults);
  return backend == Backend::cuda ? all : all.first(all.size() - 1);
}

CaseResult run_fault(const Case& c, Fault fault, const CaseOptions& options) {
  return guard_case([&](CaseResult& result) -> std::string {
    const CaseWeights weights = make_weights(c);
    Rng rng(c.seed, c.index + 29);
    const std::int64_t faulty = rng.between(0, c.world_size() - 1);
    Calls calls;
    calls.push_back(make_call(c));
    calls.push_back(make_faulty_call(c, fault, faulty, rng));
    std::vector<Run> runs;
    const auto add = [&](Schedule schedule, std::int64_t call, bool is_graph) {
      Run& run = runs.emplace_back(make_run(c, schedule, static_cast<std::uint64_t>(runs.size())));
      if (is_graph) run = as_graph(run, 2);
      run.call = call;
      run.label = fmt::format("{} call by {}", call == 0 ? "good" : to_string(fault), run.label);
      if (call == 0) return;
      if (fault == Fault::device_tokens) {
        for (const RankCall& rank : calls[1]) run.device_tokens.push_back(rank.tokens);
        ++run.device_tokens[faulty];
      }
      run.spoil = [fault, faulty](int rank, ConstMatrixView& x, RoutingView& routing,
                                  MatrixView& y) {
        if (rank == faulty) spoil_views(fault, x, routing, y);
      };
    };
    add(Schedule::sequential, 0, false);
    for (const Schedule schedule : chosen_schedules(options, c.backend)) {
      for (const bool is_graph : {false, true}) {
        if (is_graph && c.backend == Backend::cpu) continue;
        add(schedule, 1, is_graph);
        add(schedule, 0, is_graph);
      }
    }
    const Outputs outputs =
        execute({c, weights, calls, runs, options.world, options.timeout, options.lockstep});
    result.forwards = static_cast<std::int64_t>(runs.size());
    for (std::size_t i = 0; i < runs.size(); ++i) {
      std::string failure;
      if (runs[i].call == 1) {
        failure = judge_fault(runs[i], calls[1], outputs[i], faulty, fault != Fault::null_y);
      } else {
        failure = judge_run(c, runs[i], calls[0], outputs[i], options.check_stats);
        if (failure.empty() && runs[i].options[0].schedule != Schedule::reference) {
          failure = judge_equal(runs[i], calls[0], outputs[i], outputs[0], runs[0].label);
        }
      }
      if (!failure.empty()) return failure;
    }
    return {};
  });
}

}  // namespace comet
