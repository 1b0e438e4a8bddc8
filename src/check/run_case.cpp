// SPDX-License-Identifier: Apache-2.0
#include "check/run_case.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "check/rng.hpp"
#include "check/verdict.hpp"

namespace comet {
namespace {

using Truth = std::vector<std::vector<OracleResult>>;  // [call][rank]

constexpr int kLaunches = 2;  // of a graph
constexpr std::uint64_t kDigestStart = 14695981039346656037ULL;
constexpr std::uint64_t kDigestPrime = 1099511628211ULL;

Truth make_truth(const Case& c, const CaseWeights& weights, const Calls& calls, int threads) {
  Truth truth;
  for (const std::vector<RankCall>& ranks : calls) {
    std::vector<OracleResult>& results = truth.emplace_back();
    for (const RankCall& call : ranks) {
      results.push_back(run_oracle(
          c.desc, weights.oracle(), call.x_view(), call.routing_view(),
          {.tp = c.parallel.tp, .rounds_rows = c.backend == Backend::cuda, .threads = threads}));
    }
  }
  return truth;
}

std::vector<Run> runs_of_case(const Case& c, const CaseOptions& options) {
  std::vector<Run> runs;
  const bool is_cuda = c.backend == Backend::cuda;
  const std::vector<Schedule> schedules = chosen_schedules(options, c.backend);
  const auto has = [&](Schedule schedule) {
    return std::find(schedules.begin(), schedules.end(), schedule) != schedules.end();
  };
  const auto stream = [&] { return static_cast<std::uint64_t>(runs.size()); };
  runs.push_back(make_run(c, Schedule::sequential, stream()));
  if (has(Schedule::comet)) {
    if (options.comet_runs > 0) {
      runs.push_back(make_run(c, Schedule::comet, stream(), c.forward));
    }
    for (int i = 1; i < options.comet_runs; ++i) {
      runs.push_back(make_run(c, Schedule::comet, stream()));
    }
  }
  if (has(Schedule::pipelined)) {
    for (const std::int64_t chunks : {1, 2, 4, 8}) {
      if (chunks == 8 && !is_cuda) continue;
      ForwardOptions shared;
      shared.groups = chunks;
      runs.push_back(make_run(c, Schedule::pipelined, stream(), shared));
    }
  }
  runs.push_back(make_run(c, Schedule::sequential, stream()));
  if (is_cuda) {
    runs.push_back(as_graph(make_run(c, Schedule::sequential, stream()), kLaunches));
    for (const Schedule schedule : schedules) {
      if (schedule == Schedule::sequential) continue;
      runs.push_back(as_graph(make_run(c, schedule, stream(), c.forward), kLaunches));
    }
  }
  if (has(Schedule::reference)) {
    runs.push_back(make_run(c, Schedule::reference, stream()));
  }
  return runs;
}

// FNV-1a over the outputs of all ranks, in rank order.
std::uint64_t digest_of(const std::vector<RunOutput>& outputs, std::uint64_t digest) {
  for (const RunOutput& output : outputs) {
    for (const std::byte byte : output.y) {
      digest = (digest ^ static_cast<std::uint64_t>(byte)) * kDigestPrime;
    }
  }
  return digest;
}

// Calls of the layer that runs make.
std::int64_t count_forwards(const std::vector<Run>& runs) {
  std::int64_t count = 0;
  for (const Run& run : runs) count += std::max(run.graph, 1);
  return count;
}

}  // namespace

std::vector<Schedule> schedules_of(Backend backend) {
  if (backend == Backend::cuda) return {Schedule::sequential, Schedule::pipelined, Schedule::comet};
  return {Schedule::reference, Schedule::sequential, Schedule::pipelined, Schedule::comet};
}

std::vector<Schedule> chosen_schedules(const CaseOptions& options, Backend backend) {
  return options.schedules.empty() ? schedules_of(backend) : options.schedules;
}

CaseResult guard_case(const std::function<std::string(CaseResult&)>& body) {
  CaseResult result;
  try {
    result.failure = body(result);
  } catch (const Error& error) {
    result.failure = fmt::format("threw {}: {}", to_string(error.code()), error.what());
  } catch (const std::exception& error) {
    result.failure = fmt::format("threw something that is no comet::Error: {}", error.what());
  }
  return result;
}

CaseResult run_case(const Case& c, const CaseOptions& options) {
  return guard_case([&](CaseResult& result) -> std::string {
    const CaseWeights weights = make_weights(c);
    Calls calls;
    calls.push_back(make_call(c));
    const std::vector<Run> runs = runs_of_case(c, options);
    const Outputs outputs =
        execute({c, weights, calls, runs, options.world, options.timeout, options.lockstep});
    result.forwards = count_forwards(runs);
    const Truth truth = make_truth(c, weights, calls, options.oracle_threads);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      std::string failure = judge_run(c, runs[i], calls[0], outputs[i], options.check_stats);
      const bool is_reference = runs[i].options[0].schedule == Schedule::reference;
      if (failure.empty() && (i == 0 || is_reference)) {
        failure = judge_truth(runs[i], calls[0], outputs[i], truth[0], result.worst_ratio);
      }
      if (failure.empty() && !is_reference) {
        failure = judge_equal(runs[i], calls[0], outputs[i], outputs[0], runs[0].label);
      }
      if (!failure.empty()) return failure;
    }
    result.digest = digest_of(outputs[0], kDigestStart);
    return {};
  });
}

CaseResult run_many_calls(const Case& c, std::int64_t num_calls, const CaseOptions& options) {
  return guard_case([&](CaseResult& result) -> std::string {
    const CaseWeights weights = make_weights(c);
    const std::vector<Schedule> schedules = chosen_schedules(options, c.backend);
    Calls calls;
    std::vector<Run> mixed, plain;
    Rng rng(c.seed, c.index + 17);
    for (std::int64_t call = 0; call < num_calls; ++call) {
      calls.push_back(make_call(c, call));
      const auto pick = rng.between(0, std::ssize(schedules) - 1);
      const auto stream = static_cast<std::uint64_t>(call);
      mixed.push_back(make_run(c, schedules.at(pick), stream));
      if (c.backend == Backend::cuda && call > 0 && rng.one_in(3)) {
        mixed.back() = as_graph(mixed.back(), kLaunches);
      }
      plain.push_back(make_run(c, Schedule::sequential, stream));
      mixed.back().call = plain.back().call = call;
      mixed.back().label = fmt::format("call {} by {}", call, mixed.back().label);
    }
    const Outputs outputs =
        execute({c, weights, calls, mixed, options.world, options.timeout, options.lockstep});
    const Outputs fresh =
        execute({c, weights, calls, plain, options.world, options.timeout, options.lockstep});
    result.forwards = count_forwards(mixed) + count_forwards(plain);
    const Truth truth = make_truth(c, weights, calls, options.oracle_threads);
    for (std::int64_t call = 0; call < num_calls; ++call) {
      const Run& run = mixed[call];
      std::string failure = judge_run(c, run, calls[call], outputs[call], options.check_stats);
      if (failure.empty()) {
        failure = judge_run(c, plain[call], calls[call], fresh[call], options.check_stats);
      }
      if (failure.empty()) {
        failure = judge_truth(run, calls[call], outputs[call], truth[call], result.worst_ratio);
      }
      if (failure.empty() && run.options[0].schedule != Schedule::reference) {
        failure = judge_equal(run, calls[call], outputs[call], fresh[call],
                              "a layer that only ran sequential");
      }
      if (!failure.empty()) return failure;
    }
    result.digest = kDigestStart;
    for (const std::vector<RunOutput>& call : fresh) result.digest = digest_of(call, result.digest);
    return {};
  });
}

}  // namespace comet
