// SPDX-License-Identifier: Apache-2.0
#include "cli/tokens.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.hpp"
#include "base/checked_math.hpp"
#include "base/element.hpp"
#include "base/int_math.hpp"
#include "base/read_number.hpp"
#include "check/rng.hpp"
#include "io/safetensors.hpp"

namespace comet::cli {
namespace {

constexpr std::string_view kRandom = "random:";
constexpr std::int64_t kMaxTokens = 1 << 24;

std::int64_t parse_count(std::string_view text) {
  const auto count = read_number<std::int64_t>(text);
  check(count && *count >= 0 && *count <= kMaxTokens, ErrorCode::invalid_argument,
        "[tokens] --tokens random:'{}', a whole number from 0 to {}", text, kMaxTokens);
  return *count;
}

Tokens random_tokens(std::int64_t rows, std::int64_t hidden, DType dtype, std::uint64_t seed) {
  Tokens tokens(rows, hidden, dtype);
  Rng rng(seed);
  for (std::int64_t i = 0; i < rows * hidden; ++i) {
    store_element(tokens.data.data(), i, dtype, rng.symmetric());
  }
  return tokens;
}

Tokens read_tokens(const std::string& path, std::int64_t hidden, DType dtype) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const StoredTensor& x = file.tensor("x");
  const bool is_matrix = x.shape.size() == 2;
  check(is_matrix && x.shape[1] == hidden, ErrorCode::mismatch,
        "[tokens] {}: tensor x has shape [{}], needs [tokens, {}]", path, fmt::join(x.shape, ", "),
        hidden);
  check(x.shape[0] <= kMaxTokens, ErrorCode::out_of_range,
        "[tokens] {}: tensor x has {} tokens, at most {}", path, x.shape[0], kMaxTokens);
  Tokens tokens(x.shape[0], hidden, dtype);
  convert_elements(x, 0, x.num_elements, dtype, tokens.data.data());
  return tokens;
}

}  // namespace

Tokens::Tokens(std::int64_t num_rows, std::int64_t hidden_size, DType type)
    : rows(num_rows),
      hidden(hidden_size),
      dtype(type),
      data(checked_product("tokens",
                           {num_rows, hidden_size, static_cast<std::int64_t>(size_of(type))})) {}

ConstMatrixView Tokens::view(std::int64_t begin, std::int64_t count) const noexcept {
  return {data.data() + begin * hidden * static_cast<std::int64_t>(size_of(dtype)), count, hidden,
          hidden, dtype};
}

MatrixView Tokens::view(std::int64_t begin, std::int64_t count) noexcept {
  return {data.data() + begin * hidden * static_cast<std::int64_t>(size_of(dtype)), count, hidden,
          hidden, dtype};
}

float Tokens::at(std::int64_t index) const { return load_element(data.data(), index, dtype); }

Tokens load_tokens(const std::string& source, std::int64_t hidden, DType dtype,
                   std::uint64_t seed) {
  if (!source.starts_with(kRandom)) return read_tokens(source, hidden, dtype);
  return random_tokens(count_tokens(source), hidden, dtype, seed);
}

std::int64_t count_tokens(const std::string& source) {
  if (source.starts_with(kRandom)) {
    return parse_count(std::string_view(source).substr(kRandom.size()));
  }
  const SafetensorsFile file = SafetensorsFile::open(source);
  const std::vector<std::int64_t>& shape = file.tensor("x").shape;
  return shape.size() == 2 && shape[0] <= kMaxTokens ? shape[0] : 0;
}

double max_relative_error(const Tokens& y, const Tokens& reference) {
  double worst = 0;
  double largest = 0;
  for (std::int64_t i = 0; i < y.rows * y.hidden; ++i) {
    const double expected = reference.at(i);
    const double difference = std::abs(y.at(i) - expected);
    if (std::isnan(difference)) return std::numeric_limits<double>::quiet_NaN();
    worst = std::max(worst, difference);
    largest = std::max(largest, std::abs(expected));
  }
  return worst == 0 ? 0 : worst / largest;
}

}  // namespace comet::cli
