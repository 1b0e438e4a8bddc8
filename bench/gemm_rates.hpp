// SPDX-License-Identifier: Apache-2.0
// Rates of the CPU backend's grouped GEMM and of the library's own large product, on one thread.
#pragma once

#include <cstdint>
#include <functional>

#include "comet/desc.hpp"

namespace comet::bench {

/// One layer on one rank.
struct GemmCase {
  const char* name;
  MoeDesc desc;
  std::int64_t tokens;
};

struct GemmRates {
  double grouped = 0;  ///< GFLOP/s, of routed rows: tails of tiles are work that does not count.
  double library = 0;  ///< Of the same two products, each as one large one.
  double grouped_seconds = 0;  ///< Of one replay of the layer's two GEMMs.
  double ratio() const noexcept { return library > 0 ? grouped / library : 0; }
};

/// Builds the layer and the large products, then calls `body` with a function that measures both
/// once, in processor time of the calling thread.
void with_gemm_rates(const GemmCase& c,
                     const std::function<void(std::function<GemmRates()>)>& body);

}  // namespace comet::bench
