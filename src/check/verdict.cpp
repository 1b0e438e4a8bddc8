// SPDX-License-Identifier: Apache-2.0
#include "check/verdict.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/element.hpp"

namespace comet {
namespace {

double element(const RankCall& call, const Bytes& y, std::int64_t token, std::int64_t column) {
  return load_element(y.data(), token * call.row_stride + column, call.dtype);
}

const std::byte* address(const RankCall& call, const Bytes& y, std::int64_t token,
                         std::int64_t column) {
  return y.data() + (token * call.row_stride + column) * size_of(call.dtype);
}

std::string at(const Place& place, std::int64_t token, std::int64_t column) {
  return fmt::format("{}: rank {} token {} column {}", place.label, place.rank, token, column);
}

// What one call moves, per rank.
struct Traffic {
  std::vector<std::int64_t> rows, dispatch_in, dispatch_out, combine_in, combine_out;
};

Traffic expected_traffic(const Case& c, const std::vector<RankCall>& ranks) {
  const std::int64_t world = c.world_size(), tp = c.parallel.tp, topk = c.desc.topk;
  const std::vector<std::int64_t> none(world, 0);
  Traffic traffic{none, none, none, none, none};
  const std::vector<std::int32_t> owners = expert_owners(c.desc, c.parallel);
  const auto token_bytes = static_cast<std::int64_t>(c.desc.hidden * size_of(c.desc.dtype));
  for (std::int64_t home = 0; home < world; ++home) {
    const RoutingView routing = ranks[home].routing_view();
    for (std::int64_t token = 0; token < routing.tokens; ++token) {
      std::vector<std::int64_t> copies(world, 0);
      for (std::int64_t k = 0; k < topk; ++k) {
        const std::int64_t expert = routing.id(token * topk + k);
        if (expert < 0) continue;
        for (std::int64_t i = 0; i < tp; ++i) ++copies[owners[expert] * tp + i];
      }
      for (std::int64_t rank = 0; rank < world; ++rank) {
        traffic.rows[rank] += copies[rank];
        if (copies[rank] == 0 || rank == home) continue;
        traffic.dispatch_in[rank] += token_bytes;
        traffic.dispatch_out[home] += token_bytes;
        traffic.combine_out[rank] += token_bytes;
        traffic.combine_in[home] += token_bytes;
      }
    }
  }
  return traffic;
}

}  // namespace

std::string judge_clean(const Place& place, const RankCall& call, const RunOutput& output) {
  if (output.error.has_value()) {
    return fmt::format("{}: rank {} threw {}: {}", place.label, place.rank,
                       to_string(output.error->code), output.error->sentence);
  }
  if (!output.difference.empty()) {
    return fmt::format("{}: rank {}: {}", place.label, place.rank, output.difference);
  }
  for (std::int64_t token = 0; token < call.tokens; ++token) {
    const std::byte* begin = address(call, output.y, token, call.hidden);
    const std::byte* end = address(call, output.y, token + 1, 0);
    if (!std::all_of(begin, end, [](std::byte b) { return b == kCanary; })) {
      return fmt::format("{}: rank {} token {}: y was written past its {} columns", place.label,
                         place.rank, token, call.hidden);
    }
  }
  return {};
}

std::string judge_bound(const Place& place, const RankCall& call, const RunOutput& output,
                        const OracleResult& oracle, double& worst_ratio) {
  for (std::int64_t token = 0; token < call.tokens; ++token) {
    for (std::int64_t column = 0; column < call.hidden; ++column) {
      const double got = element(call, output.y, token, column);
      const double expected = oracle.y[token * call.hidden + column];
      const double bound = oracle.bound[token * call.hidden + column];
      const double error = std::abs(got - expected);
      if (!(error <= bound)) {  // NaN too
        return fmt::format("{}: got {:.9g}, expected {:.9g}, bound {:.3g}",
                           at(place, token, column), got, expected, bound);
      }
      worst_ratio = std::max(worst_ratio, error / bound);
    }
  }
  return {};
}

std::string judge_bits(const Place& place, const RankCall& call, const RunOutput& output,
                       const RunOutput& expected, const std::string& expected_label) {
  if (output.y == expected.y) return {};
  const std::size_t size = size_of(call.dtype);
  for (std::int64_t token = 0; token < call.tokens; ++token) {
    for (std::int64_t column = 0; column < call.hidden; ++column) {
      if (std::memcmp(address(call, output.y, token, column),
                      address(call, expected.y, token, column), size) != 0) {
        return fmt::format("{}: got {:.9g}, expected the bits of {:.9g} from {}",
                           at(place, token, column), element(call, output.y, token, column),
                           element(call, expected.y, token, column), expected_label);
      }
    }
  }
  return fmt::format("{}: rank {}: y has other padding than from {}", place.label, place.rank,
                     expected_label);
}

std::string judge_nan(const Place& place, const RankCall& call, const RunOutput& output) {
  for (std::int64_t token = 0; token < call.tokens; ++token) {
    for (std::int64_t column = 0; column < call.hidden; ++column) {
      const double got = element(call, output.y, token, column);
      if (!std::isnan(got)) {
        return fmt::format("{}: got {:.9g}, expected NaN after a fault", at(place, token, column),
                           got);
      }
    }
  }
  return {};
}

std::string judge_stats(const Case& c, const std::string& label, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs) {
  const Traffic expected = expected_traffic(c, ranks);
  for (std::int64_t rank = 0; rank < c.world_size(); ++rank) {
    const CallStats& stats = outputs[rank].stats;
    const struct {
      const char* name;
      std::int64_t got, expected;
    } values[] = {
        {"rows", stats.rows, expected.rows[rank]},
        {"dispatch_bytes_in", stats.dispatch_bytes_in, expected.dispatch_in[rank]},
        {"dispatch_bytes_out", stats.dispatch_bytes_out, expected.dispatch_out[rank]},
        {"combine_bytes_in", stats.combine_bytes_in, expected.combine_in[rank]},
        {"combine_bytes_out", stats.combine_bytes_out, expected.combine_out[rank]},
    };
    for (const auto& value : values) {
      if (value.got != value.expected) {
        return fmt::format("{}: rank {}: stats.{} is {}, routing and placement imply {}", label,
                           rank, value.name, value.got, value.expected);
      }
    }
  }
  return {};
}

std::string judge_run(const Case& c, const Run& run, const std::vector<RankCall>& ranks,
                      const std::vector<RunOutput>& outputs, bool check_stats) {
  std::string failure;
  for (std::int64_t rank = 0; rank < c.world_size() && failure.empty(); ++rank) {
    failure = judge_clean({run.label, rank}, ranks[rank], outputs[rank]);
  }
  // The serial truth has no tiles and no links to report.
  if (check_stats && failure.empty() && run.options[0].schedule != Schedule::reference) {
    failure = judge_stats(c, run.label, ranks, outputs);
  }
  return failure;
}

std::string judge_truth(const Run& run, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs,
                        const std::vector<OracleResult>& truth, double& worst_ratio) {
  std::string failure;
  for (std::size_t rank = 0; rank < ranks.size() && failure.empty(); ++rank) {
    failure = judge_bound({run.label, static_cast<std::int64_t>(rank)}, ranks[rank], outputs[rank],
                          truth[rank], worst_ratio);
  }
  return failure;
}

std::string judge_equal(const Run& run, const std::vector<RankCall>& ranks,
                        const std::vector<RunOutput>& outputs,
                        const std::vector<RunOutput>& expected, const std::string& expected_label) {
  std::string failure;
  for (std::size_t rank = 0; rank < ranks.size() && failure.empty(); ++rank) {
    failure = judge_bits({run.label, static_cast<std::int64_t>(rank)}, ranks[rank], outputs[rank],
                         expected[rank], expected_label);
  }
  return failure;
}

}  // namespace comet
