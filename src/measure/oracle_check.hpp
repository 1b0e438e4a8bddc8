// SPDX-License-Identifier: Apache-2.0
// Compares results of a benchmark with the oracle, on as many tokens as a time allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "measure/bench_data.hpp"

namespace comet {

/// Which tokens are compared: `count` of all ranks' tokens, evenly spaced in rank order.
struct TokenSample {
  struct Entry {
    int rank;
    std::int64_t token;
  };
  std::vector<Entry> entries;
};

/// As many tokens as the oracle does in about `seconds` on this machine's processors.
TokenSample choose_sample(const BenchData& data, int world, double seconds);

/// Of the sample's tokens those of one rank.
TokenSample part_of(const TokenSample& sample, int rank);

/// `y[rank]` [tokens of the rank, H] of the case's dtype, dense; `engine` says how it was computed,
/// its threads are not read. Tokens and y of ranks that the sample leaves out may be null. Throws
/// Error(internal) naming the first element that is further from the oracle than rounding explains.
void check_with_oracle(const BenchData& data, OracleOptions engine, const TokenSample& sample,
                       std::span<const std::byte* const> y);

}  // namespace comet
