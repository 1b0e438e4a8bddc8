// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_scale.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/read_number.hpp"

namespace comet::cli {
namespace {

// A row costs copies in proportion to H and products in proportion to H * I, so only I decides
// their ratio: it stays as large as patience allows. H still has eight panels of 64 columns, below
// which products get slow, and an expert gets a whole tile of rows from each of four ranks.
constexpr std::int64_t kDemoHidden = 512;
constexpr std::int64_t kDemoIntermediate = 2048;
constexpr std::int64_t kDemoRowsPerExpert = 512;
constexpr std::int64_t kDemoMostTokens = 4096;

std::int64_t round_down(std::int64_t value, std::int64_t unit) {
  return std::max(unit, value / unit * unit);
}

}  // namespace

Scale parse_scale(std::string_view text) {
  if (text == "none") return {};
  if (text == "demo") return {.kind = Scale::Kind::demo};
  const auto factor = read_number<std::int64_t>(text);
  check(factor && *factor >= 1, ErrorCode::invalid_argument,
        "[bench] unknown scale '{}': none, demo or a whole number of at least 1", text);
  return {.kind = Scale::Kind::factor, .factor = *factor};
}

Divisors scale_for(const Scale& scale, const MoeDesc& desc, std::int64_t tokens) {
  if (scale.kind != Scale::Kind::demo) return {scale.factor, scale.factor, scale.factor};
  const std::int64_t wished_tokens =
      std::min(kDemoMostTokens, kDemoRowsPerExpert * desc.num_experts / desc.topk);
  return {.hidden = std::max<std::int64_t>(1, desc.hidden / kDemoHidden),
          .intermediate = std::max<std::int64_t>(
              1, (desc.intermediate + kDemoIntermediate - 1) / kDemoIntermediate),
          .tokens = std::max<std::int64_t>(1, tokens / wished_tokens)};
}

void apply(const Divisors& divisors, std::int64_t tp, MoeDesc& desc, std::int64_t& tokens) {
  desc.hidden = round_down(desc.hidden / divisors.hidden, 8);
  desc.intermediate = round_down(desc.intermediate / divisors.intermediate, 8 * tp);
  tokens = std::max<std::int64_t>(tokens > 0 ? 1 : 0, tokens / divisors.tokens);
}

}  // namespace comet::cli
