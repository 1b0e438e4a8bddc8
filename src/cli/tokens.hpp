// SPDX-License-Identifier: Apache-2.0
// A dense matrix of tokens [rows, hidden] that owns its memory: input and output of `comet run`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comet/tensor_view.hpp"

namespace comet::cli {

struct Tokens {
  Tokens(std::int64_t num_rows, std::int64_t hidden_size, DType type);

  std::int64_t rows;
  std::int64_t hidden;
  DType dtype;
  std::vector<std::byte> data;

  /// Rows [begin, begin + count).
  ConstMatrixView view(std::int64_t begin, std::int64_t count) const noexcept;
  MatrixView view(std::int64_t begin, std::int64_t count) noexcept;
  float at(std::int64_t index) const;
};

/// `source` is "random:<T>", values in [-1, 1) from `seed`, or the path of a safetensors file with
/// a tensor x [T, hidden] of F32, BF16 or F16, rounded to `dtype`. Throws Error(format) if there is
/// no such tensor, and Error(mismatch) if its rows have another length.
Tokens load_tokens(const std::string& source, std::int64_t hidden, DType dtype, std::uint64_t seed);

/// How many tokens load_tokens would give, without taking memory for them. Throws as it does, but
/// for a tensor of another shape or too many tokens, of which it says 0.
std::int64_t count_tokens(const std::string& source);

/// max |y - reference| / max |reference| over all elements, 0 if all is 0; NaN if either has a NaN.
double max_relative_error(const Tokens& y, const Tokens& reference);

}  // namespace comet::cli
