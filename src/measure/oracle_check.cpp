// SPDX-License-Identifier: Apache-2.0
#include "measure/oracle_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/check.hpp"
#include "base/element.hpp"

namespace comet {
namespace {

// Multiplications of the oracle in a second on one slow processor.
constexpr double kOracleRate = 5e8;

int num_threads() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

}  // namespace

TokenSample choose_sample(const BenchData& data, int world, double seconds) {
  const MoeDesc& desc = data.desc();
  std::int64_t total = 0;
  for (int rank = 0; rank < world; ++rank) total += data.tokens_of(rank);
  const double work =
      static_cast<double>((desc.gated ? 3 : 2) * desc.hidden * desc.intermediate * desc.topk);
  const double affordable = std::min(seconds * kOracleRate * num_threads() / work, 1e15);
  const std::int64_t count =
      std::min(total, std::max<std::int64_t>(world, static_cast<std::int64_t>(affordable)));
  TokenSample sample;
  std::int64_t first = 0,
               next = 0;  // numbered over all ranks; entry `next` is token total * next / count
  for (int rank = 0; rank < world; ++rank) {
    const std::int64_t end = first + data.tokens_of(rank);
    for (; next < count && total * next / count < end; ++next) {
      sample.entries.push_back({rank, total * next / count - first});
    }
    first = end;
  }
  return sample;
}

TokenSample part_of(const TokenSample& sample, int rank) {
  TokenSample part;
  for (const TokenSample::Entry& entry : sample.entries) {
    if (entry.rank == rank) part.entries.push_back(entry);
  }
  return part;
}

void check_with_oracle(const BenchData& data, OracleOptions engine, const TokenSample& sample,
                       std::span<const std::byte* const> y) {
  const MoeDesc& desc = data.desc();
  const std::int64_t hidden = desc.hidden, topk = desc.topk;
  const auto count = static_cast<std::int64_t>(sample.entries.size());
  const std::int64_t row_bytes = hidden * static_cast<std::int64_t>(size_of(desc.dtype));
  std::vector<std::byte> x(count * row_bytes);
  std::vector<std::int32_t> ids(count * topk);
  std::vector<float> weights(count * topk);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto [rank, token] = sample.entries[i];
    const RoutingView routing = data.routing_of(rank);
    std::memcpy(x.data() + i * row_bytes,
                static_cast<const std::byte*>(data.x_of(rank).data) + token * row_bytes, row_bytes);
    for (std::int64_t k = 0; k < topk; ++k) {
      ids[i * topk + k] = static_cast<std::int32_t>(routing.id(token * topk + k));
      weights[i * topk + k] = routing.weight(token * topk + k);
    }
  }
  engine.threads = num_threads();
  OracleSum sum(desc, {x.data(), count, hidden, hidden, desc.dtype},
                {ids.data(), weights.data(), count}, engine);
  for (std::int64_t expert = 0; expert < desc.num_experts; ++expert) {
    if (sum.needs(expert)) sum.add(expert, data.expert(expert).matrices);
  }
  const OracleResult truth = sum.take();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto [rank, token] = sample.entries[i];
    for (std::int64_t column = 0; column < hidden; ++column) {
      const double got = load_element(y[rank], token * hidden + column, desc.dtype);
      const double expected = truth.y[i * hidden + column];
      const double bound = truth.bound[i * hidden + column];
      check(std::abs(got - expected) <= bound, ErrorCode::internal,  // false for NaN too
            "[bench] rank {} token {} column {}: {:.9g}, the oracle has {:.9g} and allows {:.3g}",
            rank, token, column, got, expected, bound);
    }
  }
}

}  // namespace comet
