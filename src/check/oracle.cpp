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
#include <functional>
#include <utility>

#include "base/check.hpp"
#include "base/element.hpp"
#include "base/in_parts.hpp"

namespace comet {
namespace {

constexpr double kEps = epsilon_of(DType::f32);

// s of the comment above.
constexpr double absolute_rounding(DType dtype) { return dtype == DType::f16 ? 0x1p-25 : 0; }

constexpr std::int64_t kLanes =
    8;  // all sizes are multiples of 8; lanes let the compiler vectorise

inline double as_double(double value) { return value; }
template <typename T>
double as_double(T value) {
  return static_cast<double>(to_float(value));
}

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
      const double term = a[i + lane] * as_double(b[i + lane]);
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
  return std::sqrt(dot<false>(values, values, count).sum);
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

// A token's choice of the expert in hand, and what it makes of it.
struct TokenChoice {
  std::int64_t token = 0;
  double weight = 0;
  std::vector<double> act = {};        // [I]
  std::vector<double> act_error = {};  // [I] before its rounding
  double act_norm = 0;
  double error_norm = 0;
};

}  // namespace

// Rows of weights are what threads share: each is read once for all of the expert's tokens.
class OracleSum::Sums {
 public:
  Sums(const MoeDesc& desc, const ConstMatrixView& x, const RoutingView& routing,
       const OracleOptions& options)
      : desc_(desc),
        options_(options),
        choices_(static_cast<std::size_t>(desc.num_experts)),
        result_{std::vector<double>(x.rows * desc.hidden),
                std::vector<double>(x.rows * desc.hidden)},
        partials_(x.rows * desc.hidden),
        x_(x.rows * desc.hidden),
        x_norms_(x.rows) {
    for (std::int64_t i = 0; i < x.rows * desc.topk; ++i) {
      const std::int64_t id = routing.id(i);
      check(id >= -1 && id < desc.num_experts, ErrorCode::out_of_range,
            "[oracle] expert id of token {}, choice {}: {}, allowed -1 to {}", i / desc.topk,
            i % desc.topk, id, desc.num_experts - 1);
      if (id == -1) continue;
      choices_[id].push_back({.token = i / desc.topk, .weight = routing.weight(i)});
    }
    dispatch(desc.dtype, [&]<typename T>() {
      for (std::int64_t t = 0; t < x.rows; ++t) {
        double* const row = x_.data() + t * desc.hidden;
        const T* const from = static_cast<const T*>(x.data) + t * x.row_stride;
        for (std::int64_t h = 0; h < desc.hidden; ++h) row[h] = as_double(from[h]);
        x_norms_[t] = norm(row, desc.hidden);
      }
    });
  }

  bool needs(std::int64_t expert) const { return !choices_[expert].empty(); }

  void add(std::int64_t expert, const OracleWeights& weights) {
    std::vector<TokenChoice> choices = std::move(choices_[expert]);
    choices_[expert].clear();
    if (choices.empty()) return;
    for (TokenChoice& choice : choices) {
      choice.act.resize(desc_.intermediate);
      choice.act_error.resize(desc_.intermediate);
    }
    dispatch(desc_.dtype, [&]<typename T>() {
      const T* const gates = desc_.gated ? static_cast<const T*>(weights.gate) : nullptr;
      in_parts(desc_.intermediate, options_.threads, [&](std::int64_t begin, std::int64_t end) {
        in_blocks<T>(begin, end, 2 * desc_.hidden, [&](std::int64_t first, std::int64_t last) {
          run_up(gates, static_cast<const T*>(weights.up), choices, first, last);
        });
      });
      for (TokenChoice& choice : choices) {
        choice.act_norm = norm(choice.act.data(), desc_.intermediate);
        choice.error_norm = norm(choice.act_error.data(), desc_.intermediate);
      }
      in_parts(desc_.hidden, options_.threads, [&](std::int64_t begin, std::int64_t end) {
        in_blocks<T>(begin, end, desc_.intermediate, [&](std::int64_t first, std::int64_t last) {
          run_down(static_cast<const T*>(weights.down), choices, first, last);
        });
      });
    });
  }

  OracleResult take() {
    const auto additions = static_cast<double>(desc_.topk * (options_.tp + 1));
    for (std::size_t i = 0; i < result_.y.size(); ++i) {
      double& bound = result_.bound[i];
      bound += unit_ * std::abs(result_.y[i]) + absolute_ + additions * kEps * partials_[i];
      bound = 1.05 * bound + 1e-30;
    }
    return std::move(result_);
  }

 private:
  // Calls work(first, last) for blocks of the rows [begin, end) that a core's cache holds, so that
  // all tokens find a block there.
  template <typename T>
  static void in_blocks(std::int64_t begin, std::int64_t end, std::int64_t cols,
                        const std::function<void(std::int64_t, std::int64_t)>& work) {
    constexpr std::int64_t kBytes = std::int64_t{1} << 18;
    const auto row_bytes = cols * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t rows = std::max<std::int64_t>(1, kBytes / row_bytes);
    for (std::int64_t first = begin; first < end; first += rows) {
      work(first, std::min(first + rows, end));
    }
  }

  // Norms of rows [begin, end) of a matrix; none of no matrix.
  template <typename T>
  static std::vector<double> norms_of(const T* matrix, std::int64_t begin, std::int64_t end,
                                      std::int64_t cols) {
    const std::vector<double> ones(cols, 1.0);
    std::vector<double> norms;
    for (std::int64_t row = begin; matrix != nullptr && row < end; ++row) {
      norms.push_back(std::sqrt(dot<true>(ones.data(), matrix + row * cols, cols).squares));
    }
    return norms;
  }

  // Rows [begin, end) of the first product.
  template <typename T>
  void run_up(const T* gates, const T* ups, std::vector<TokenChoice>& choices, std::int64_t begin,
              std::int64_t end) const {
    const std::int64_t hidden = desc_.hidden;
    const std::vector<double> up_norms = norms_of(ups, begin, end, hidden);
    const std::vector<double> gate_norms = norms_of(gates, begin, end, hidden);
    for (TokenChoice& choice : choices) {
      const double* const x = x_.data() + choice.token * hidden;
      const double x_error =
          2 * std::sqrt(static_cast<double>(hidden)) * kEps * x_norms_[choice.token];
      for (std::int64_t i = begin; i < end; ++i) {
        const double up = dot<false>(x, ups + i * hidden, hidden).sum;
        const double up_error = x_error * up_norms[i - begin];
        if (gates == nullptr) {
          choice.act[i] = activate(desc_.activation, up);
          choice.act_error[i] = 1.13 * up_error + 8 * kEps * std::abs(up);
          continue;
        }
        const double gate = dot<false>(x, gates + i * hidden, hidden).sum;
        const double gate_error = x_error * gate_norms[i - begin];
        const double f = activate(desc_.activation, gate);
        choice.act[i] = f * up;
        choice.act_error[i] = 1.13 * gate_error * (std::abs(up) + up_error) +
                              std::abs(f) * up_error + 8 * kEps * std::abs(gate * up);
      }
    }
  }

  // Rows [begin, end) of the second product, which are columns of y. In exact arithmetic the
  // position of the weight makes no difference.
  template <typename T>
  void run_down(const T* downs, const std::vector<TokenChoice>& choices, std::int64_t begin,
                std::int64_t end) {
    const std::int64_t inter = desc_.intermediate, slice = inter / options_.tp;
    const auto inter_size = static_cast<double>(inter);
    const double sum_error = (2 * std::sqrt(inter_size) + 4) * kEps;
    const bool is_before = desc_.weight_position == WeightPosition::before_down;
    const double roundings = options_.rounds_rows ? 2 : 1;  // of a partial sum
    const std::vector<double> norms = norms_of(downs, begin, end, inter);
    for (const TokenChoice& choice : choices) {
      const double size = std::abs(choice.weight);
      const double absolute_acts =
          (is_before ? 1 : size) * absolute_ * std::min(std::sqrt(inter_size), 6.0);
      const double absolute_partials = static_cast<double>(options_.tp) * absolute_ *
                                       (1 + (options_.rounds_rows ? std::max(size, 1.0) : 0));
      for (std::int64_t h = begin; h < end; ++h) {
        double output = 0, squares = 0, partials = 0;
        for (std::int64_t first = 0; first < inter; first += slice) {
          const Dot part = dot<true>(choice.act.data() + first, downs + h * inter + first, slice);
          output += part.sum;
          squares += part.squares;
          partials += std::abs(part.sum);
        }
        const std::int64_t at = choice.token * desc_.hidden + h;
        const double down_norm = norms[h - begin];
        const double largest = choice.act_norm * down_norm;
        result_.y[at] += choice.weight * output;
        partials_[at] += size * partials;
        result_.bound[at] += size * (choice.error_norm * down_norm + sum_error * largest +
                                     unit_ * std::min(largest, 6 * std::sqrt(squares)) +
                                     roundings * unit_ * partials);
        result_.bound[at] += absolute_acts * down_norm + absolute_partials;
      }
    }
  }

  const MoeDesc desc_;
  const OracleOptions options_;
  const double unit_ = epsilon_of(desc_.dtype) / 2;
  const double absolute_ = absolute_rounding(desc_.dtype);
  std::vector<std::vector<TokenChoice>> choices_;  // [E]
  OracleResult result_;
  std::vector<double> partials_;  // [tokens, H] sum of absolute values of weighted partial sums
  std::vector<double> x_;         // [tokens, H]
  std::vector<double> x_norms_;   // [tokens]
};

OracleSum::OracleSum(const MoeDesc& desc, const ConstMatrixView& x, const RoutingView& routing,
                     const OracleOptions& options) {
  MoeDesc unplaced = desc;  // it makes no difference who owns an expert
  unplaced.expert_owner.clear();
  validate(unplaced, {.ep = 1, .tp = options.tp});
  check(x.rows == routing.tokens && x.cols == desc.hidden && x.dtype == desc.dtype,
        ErrorCode::invalid_argument, "[oracle] x: [{}, {}] {}, needs [{}, {}] {}", x.rows, x.cols,
        to_string(x.dtype), routing.tokens, desc.hidden, to_string(desc.dtype));
  sums_ = std::make_unique<Sums>(unplaced, x, routing, options);
}

OracleSum::~OracleSum() = default;

bool OracleSum::needs(std::int64_t expert) const { return sums_->needs(expert); }

void OracleSum::add(std::int64_t expert, const OracleWeights& weights) {
  sums_->add(expert, weights);
}

OracleResult OracleSum::take() { return sums_->take(); }

OracleWeights expert_of(const MoeDesc& desc, const OracleWeights& weights, std::int64_t expert) {
  const std::int64_t bytes =
      expert * desc.hidden * desc.intermediate * static_cast<std::int64_t>(size_of(desc.dtype));
  const auto at = [bytes](const void* matrices) -> const void* {
    return matrices == nullptr ? nullptr : static_cast<const std::byte*>(matrices) + bytes;
  };
  return {at(weights.gate), at(weights.up), at(weights.down)};
}

OracleResult run_oracle(const MoeDesc& desc, const OracleWeights& weights, const ConstMatrixView& x,
                        const RoutingView& routing, const OracleOptions& options) {
  OracleSum sum(desc, x, routing, options);
  for (std::int64_t expert = 0; expert < desc.num_experts; ++expert) {
    if (sum.needs(expert)) sum.add(expert, expert_of(desc, weights, expert));
  }
  return sum.take();
}

}  // namespace comet
