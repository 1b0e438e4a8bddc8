// SPDX-License-Identifier: Apache-2.0
// The error bound. u = epsilon / 2 of the dtype, e = epsilon of float32, |.| the 2-norm. Rounding r
// to the dtype changes it by at most u |r| + s: s = 2^-25 for f16, half the distance of its numbers
// below 2^-14; 0 for the others, which reach down to 2^-126.
//   first GEMM    v = sum over H of x * w in float32: dv = 2 sqrt(H) e |x| |w|. The terms' absolute
//                 sum is at most |x| |w|, so each addition rounds by at most e / 2 of that; of
//                 random signs, n of them stay below 4 sqrt(n) of it, seven standard deviations.
//   activation    a = f(g) * v, f' <= 1.13 (GELU at sqrt(2); SiLU 1.10, ReLU 1):
//                 da = 1.13 dg (|v| + dv) + |f(g)| dv + 8 e |g| |v|, the last for evaluating f.
//   its rounding  to the dtype, u |a| + s each, of random signs: in the output at most
//                 u min(|a| |d|, 6 |a * d|) + s min(sqrt(I), 6) |d| with d the row of down; six
//                 sums of squares are exceeded with probability below 1e-7 (Hoeffding), and the
//                 others hold with certainty. If the routing weight is already in a, it does not
//                 scale s.
//   second GEMM   |da| |d| + (2 sqrt(I) + 4) e |a| |d|, the 4 for the routing weight.
//   row products  if the engine rounds them, one per choice and slice: u times the sum of their
//                 absolute values, weighted, and s for each, times the weight if that comes later.
//   partial sums  rounded to the dtype once per rank: u times the sum of their absolute values; a
//                 rank's partial is at most the sum of its choices' slices, and there are at most
//                 as many of them, each with an s.
//   last sum      in float32, one addition per choice and slice, then rounded: u |y| + s.
// All are to first order; 5 % pays for products of errors, 1e-30 for numbers below the normal
// range.
#include "check/oracle.hpp"

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/check.hpp"
#include "base/element.hpp"

namespace comet {
namespace {

constexpr double kEps = epsilon_of(DType::f32);

// s of the comment above.
constexpr double absolute_rounding(DType dtype) { return dtype == DType::f16 ? 0x1p-25 : 0; }

constexpr std::int64_t kLanes =
    8;  // all sizes are multiples of 8; lanes let the compiler vectorise

struct Dot {
  double sum = 0;      // of a * b
  double squares = 0;  // of (a * b)^2
};

template <bool with_squares, typename T>
Dot dot(const double* a, const T* b, std::int64_t count) {
  double sum[kLanes] = {};
  double squares[kLanes] = {};
  for (std::int64_t i = 0; i < count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const double term = a[i + lane] * static_cast<double>(to_float(b[i + lane]));
      sum[lane] += term;
      if constexpr (with_squares) squares[lane] += term * term;
    }
  }
  Dot total;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    total.sum += sum[lane];
    total.squares += squares[lane];
  }
  return total;
}

double norm(const double* values, std::int64_t count) {
  double squares = 0;
  for (std::int64_t i = 0; i < count; ++i) squares += values[i] * values[i];
  return std::sqrt(squares);
}

// 2-norms of the rows of `matrix` [rows, cols].
template <typename T>
std::vector<double> row_norms(const T* matrix, std::int64_t rows, std::int64_t cols) {
  const std::vector<double> ones(cols, 1.0);
  std::vector<double> norms(rows);
  for (std::int64_t row = 0; row < rows; ++row) {
    norms[row] = std::sqrt(dot<true>(ones.data(), matrix + row * cols, cols).squares);
  }
  return norms;
}

double activate(Activation activation, double value) {
  switch (activation) {
    case Activation::silu:
      return value / (1 + std::exp(-value));
    case Activation::gelu:
      return 0.5 * value * std::erfc(-value / std::sqrt(2.0));
    case Activation::relu:
      return std::max(value, 0.0);
  }
  fail(ErrorCode::invalid_argument, "[oracle] unknown activation: {}",
       static_cast<int>(activation));
}

template <typename T>
class Oracle {
 public:
  Oracle(const MoeDesc& desc, const OracleOptions& options, const OracleWeights& weights)
      : desc_(desc),
        tp_(options.tp),
        rounds_rows_(options.rounds_rows),
        gate_(static_cast<const T*>(weights.gate)),
        up_(static_cast<const T*>(weights.up)),
        down_(static_cast<const T*>(weights.down)),
        up_norms_(row_norms(up_, desc.num_experts * desc.intermediate, desc.hidden)),
        down_norms_(row_norms(down_, desc.num_experts * desc.hidden, desc.intermediate)) {
    if (desc.gated) {
      gate_norms_ = row_norms(gate_, desc.num_experts * desc.intermediate, desc.hidden);
    }
  }

  // One token: y and bound [H].
  void run_token(const T* x, const RoutingView& routing, std::int64_t token, double* y,
                 double* bound) const {
    Work work{std::vector<double>(desc_.hidden), std::vector<double>(desc_.intermediate),
              std::vector<double>(desc_.intermediate), std::vector<double>(desc_.hidden)};
    for (std::int64_t h = 0; h < desc_.hidden; ++h) work.x[h] = to_float(x[h]);
    for (std::int64_t k = 0; k < desc_.topk; ++k) {
      const std::int64_t expert = routing.id(token * desc_.topk + k);
      if (expert == -1) continue;
      run_up(expert, work);
      // In exact arithmetic the position of the weight makes no difference.
      run_down(expert, routing.weights[token * desc_.topk + k], work, y, bound);
    }
    const auto additions = static_cast<double>(desc_.topk * (tp_ + 1));
    for (std::int64_t h = 0; h < desc_.hidden; ++h) {
      bound[h] += unit_ * std::abs(y[h]) + absolute_ + additions * kEps * work.partials[h];
      bound[h] = 1.05 * bound[h] + 1e-30;
    }
  }

 private:
  struct Work {
    std::vector<double> x;          // [H]
    std::vector<double> act;        // [I]
    std::vector<double> act_error;  // [I] before its rounding
    std::vector<double> partials;   // [H] sum of absolute values of weighted partial sums
  };

  void run_up(std::int64_t expert, Work& work) const {
    const std::int64_t inter = desc_.intermediate, hidden = desc_.hidden;
    const double sum_error =
        2 * std::sqrt(static_cast<double>(hidden)) * kEps * norm(work.x.data(), hidden);
    for (std::int64_t i = 0; i < inter; ++i) {
      const std::int64_t row = expert * inter + i;
      const double up = dot<false>(work.x.data(), up_ + row * hidden, hidden).sum;
      const double up_error = sum_error * up_norms_[row];
      if (desc_.gated) {
        const double gate = dot<false>(work.x.data(), gate_ + row * hidden, hidden).sum;
        const double gate_error = sum_error * gate_norms_[row];
        const double f = activate(desc_.activation, gate);
        work.act[i] = f * up;
        work.act_error[i] = 1.13 * gate_error * (std::abs(up) + up_error) + std::abs(f) * up_error +
                            8 * kEps * std::abs(gate * up);
      } else {
        work.act[i] = activate(desc_.activation, up);
        work.act_error[i] = 1.13 * up_error + 8 * kEps * std::abs(up);
      }
    }
  }

  void run_down(std::int64_t expert, double weight, Work& work, double* y, double* bound) const {
    const std::int64_t inter = desc_.intermediate, hidden = desc_.hidden, slice = inter / tp_;
    const auto inter_size = static_cast<double>(inter);
    const double act_norm = norm(work.act.data(), inter);
    const double error_norm = norm(work.act_error.data(), inter);
    const double sum_error = (2 * std::sqrt(inter_size) + 4) * kEps;
    const double size = std::abs(weight);
    const bool is_before = desc_.weight_position == WeightPosition::before_down;
    const double absolute_acts =
        (is_before ? 1 : size) * absolute_ * std::min(std::sqrt(inter_size), 6.0);
    const double roundings = rounds_rows_ ? 2 : 1;  // of a partial sum
    const double absolute_partials =
        static_cast<double>(tp_) * absolute_ * (1 + (rounds_rows_ ? std::max(size, 1.0) : 0));
    for (std::int64_t h = 0; h < hidden; ++h) {
      const T* row = down_ + (expert * hidden + h) * inter;
      double output = 0, squares = 0, partials = 0;
      for (std::int64_t begin = 0; begin < inter; begin += slice) {
        const Dot part = dot<true>(work.act.data() + begin, row + begin, slice);
        output += part.sum;
        squares += part.squares;
        partials += std::abs(part.sum);
      }
      const double down_norm = down_norms_[expert * hidden + h];
      const double largest = act_norm * down_norm;
      y[h] += weight * output;
      work.partials[h] += size * partials;
      bound[h] +=
          size * (error_norm * down_norm + sum_error * largest +
                  unit_ * std::min(largest, 6 * std::sqrt(squares)) + roundings * unit_ * partials);
      bound[h] += absolute_acts * down_norm + absolute_partials;
    }
  }

  const MoeDesc& desc_;
  std::int64_t tp_;
  bool rounds_rows_;
  double unit_ = epsilon_of(desc_.dtype) / 2;
  double absolute_ = absolute_rounding(desc_.dtype);
  const T* gate_;
  const T* up_;
  const T* down_;
  std::vector<double> up_norms_, down_norms_, gate_norms_;
};

template <typename T>
OracleResult run_typed(const MoeDesc& desc, const OracleWeights& weights, const ConstMatrixView& x,
                       const RoutingView& routing, const OracleOptions& options) {
  const std::int64_t tokens = routing.tokens;
  OracleResult result{std::vector<double>(tokens * desc.hidden),
                      std::vector<double>(tokens * desc.hidden)};
  const Oracle<T> oracle(desc, options, weights);
  const auto run_range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      oracle.run_token(static_cast<const T*>(x.data) + t * x.row_stride, routing, t,
                       result.y.data() + t * desc.hidden, result.bound.data() + t * desc.hidden);
    }
  };
  // Checked here, since an Error must not leave a thread.
  for (std::int64_t i = 0; i < tokens * desc.topk; ++i) {
    check(routing.id(i) >= -1 && routing.id(i) < desc.num_experts, ErrorCode::out_of_range,
          "[oracle] expert id of token {}, choice {}: {}, allowed -1 to {}", i / desc.topk,
          i % desc.topk, routing.id(i), desc.num_experts - 1);
  }
  const int threads = options.threads;
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) {
    helpers.emplace_back(run_range, tokens * i / threads, tokens * (i + 1) / threads);
  }
  run_range(0, tokens / std::max(threads, 1));
  for (std::thread& helper : helpers) helper.join();
  return result;
}

}  // namespace

OracleResult run_oracle(const MoeDesc& desc, const OracleWeights& weights, const ConstMatrixView& x,
                        const RoutingView& routing, const OracleOptions& options) {
  MoeDesc unplaced = desc;  // it makes no difference who owns an expert
  unplaced.expert_owner.clear();
  validate(unplaced, {.ep = 1, .tp = options.tp});
  check(x.rows == routing.tokens && x.cols == desc.hidden && x.dtype == desc.dtype,
        ErrorCode::invalid_argument, "[oracle] x: [{}, {}] {}, needs [{}, {}] {}", x.rows, x.cols,
        to_string(x.dtype), routing.tokens, desc.hidden, to_string(desc.dtype));
  return dispatch(desc.dtype,
                  [&]<typename T>() { return run_typed<T>(desc, weights, x, routing, options); });
}

}  // namespace comet
