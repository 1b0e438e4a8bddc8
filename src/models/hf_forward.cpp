// SPDX-License-Identifier: Apache-2.0
// What a block computes outside the layer: router logits and the shared expert. Sums are in double;
// these matrices are small beside the experts.
#include <cmath>
#include <numbers>
#include <vector>

#include "base/check.hpp"
#include "base/element.hpp"
#include "models/hf_block.hpp"

namespace comet {
namespace {

double sigmoid(double value) { return 1.0 / (1.0 + std::exp(-value)); }

double activate(Activation activation, double value) {
  switch (activation) {
    case Activation::silu:
      return value * sigmoid(value);
    case Activation::gelu:
      return 0.5 * value * (1.0 + std::erf(value / std::numbers::sqrt2));
    case Activation::relu:
      return value > 0 ? value : 0;
  }
  return 0;
}

// Eight partial sums, so that the compiler can use vector registers without reordering a sum.
template <typename T>
double dot(const float* a, const T* b, std::int64_t count) {
  constexpr std::int64_t kLanes = 8;
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  double sum = 0;
  for (const double lane_sum : sums) sum += lane_sum;
  return sum;
}

void check_tokens(const char* name, const void* data, std::int64_t rows, std::int64_t cols,
                  std::int64_t row_stride, std::int64_t hidden) {
  check(
      rows >= 0 && cols == hidden && row_stride >= cols && (data != nullptr || rows == 0),
      ErrorCode::invalid_argument,
      "[model] {} is {} x {} with row stride {}{}, needs {} columns and a stride of at least that",
      name, rows, cols, row_stride, data == nullptr ? " and no data" : "", hidden);
}

void load_row(const ConstMatrixView& x, std::int64_t row, std::vector<float>& out) {
  dispatch(x.dtype, [&]<typename T>() {
    const T* values = static_cast<const T*>(x.data) + row * x.row_stride;
    for (std::int64_t c = 0; c < x.cols; ++c) out[c] = to_float(values[c]);
  });
}

void add_at(const MatrixView& y, std::int64_t row, std::int64_t col, double value) {
  const std::int64_t index = row * y.row_stride + col;
  const double sum = load_element(y.data, index, y.dtype) + value;
  store_element(y.data, index, y.dtype, static_cast<float>(sum));
}

}  // namespace

std::vector<float> router_logits(const MoeBlock& block, const ConstMatrixView& x) {
  const std::int64_t hidden = block.desc.hidden;
  const std::int64_t num_experts = block.desc.num_experts;
  check_tokens("x", x.data, x.rows, x.cols, x.row_stride, hidden);
  std::vector<float> logits(static_cast<std::size_t>(x.rows * num_experts));
  std::vector<float> token(static_cast<std::size_t>(hidden));
  for (std::int64_t t = 0; t < x.rows; ++t) {
    load_row(x, t, token);
    for (std::int64_t e = 0; e < num_experts; ++e) {
      logits[t * num_experts + e] =
          static_cast<float>(dot(token.data(), &block.router_weight[e * hidden], hidden));
    }
  }
  return logits;
}

void apply_shared_expert(const MoeBlock& block, const ConstMatrixView& x, const MatrixView& y) {
  if (!block.shared) return;
  const SharedExpert& shared = *block.shared;
  const std::int64_t hidden = block.desc.hidden;
  check_tokens("x", x.data, x.rows, x.cols, x.row_stride, hidden);
  check_tokens("y", y.data, y.rows, y.cols, y.row_stride, hidden);
  check(x.rows == y.rows, ErrorCode::invalid_argument, "[model] x has {} rows, y {}", x.rows,
        y.rows);
  std::vector<float> token(static_cast<std::size_t>(hidden));
  std::vector<double> inner(static_cast<std::size_t>(shared.intermediate));
  for (std::int64_t t = 0; t < x.rows; ++t) {
    load_row(x, t, token);
    const double share = sigmoid(dot(token.data(), shared.gate_weight.data(), hidden));
    for (std::int64_t i = 0; i < shared.intermediate; ++i) {
      const double gate = dot(token.data(), &shared.gate[i * hidden], hidden);
      inner[i] =
          activate(block.desc.activation, gate) * dot(token.data(), &shared.up[i * hidden], hidden);
    }
    for (std::int64_t h = 0; h < hidden; ++h) {
      const float* row = &shared.down[h * shared.intermediate];
      add_at(y, t, h, share * dot(row, inner.data(), shared.intermediate));
    }
  }
}

}  // namespace comet
