// SPDX-License-Identifier: Apache-2.0
#include "routing/inclusion.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "routing/random.hpp"

namespace comet {
namespace {

// Halving an interval this often leaves less than double's own rounding.
constexpr int kBisections = 60;

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double std_of(std::span<const double> values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

// A decreasing shape with mean 0 and standard deviation 1. With the exponent 1.5 its hottest expert
// is 2.0 and its coolest 1.3 deviations from the mean, near to the production loads that the field
// has published (2.0 and 1.5).
std::vector<double> falling_shape(std::int64_t num_experts) {
  std::vector<double> shape(num_experts);
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const double place =
        (static_cast<double>(num_experts - e) - 0.5) / static_cast<double>(num_experts);
    shape[e] = place * std::sqrt(place);
  }
  const double mean = mean_of(shape);
  const double deviation = std_of(shape);
  for (double& value : shape) value = (value - mean) / deviation;
  return shape;
}

// clip(level + stretch * shape, 0, 1), with the level at which the mean is `mean`.
void fill_clipped(std::span<const double> shape, double stretch, double mean,
                  std::span<double> inclusion) {
  double low = -stretch * shape.front();
  double high = 1 - stretch * shape.back();
  for (int round = 0; round < kBisections; ++round) {
    const double level = (low + high) / 2;
    for (std::size_t e = 0; e < shape.size(); ++e) {
      inclusion[e] = std::clamp(level + stretch * shape[e], 0.0, 1.0);
    }
    (mean_of(inclusion) < mean ? low : high) = level;
  }
}

// Moves the values to places that are scattered but the same for every seed, so that ranks that
// draw with seeds of their own still share their hot experts.
void scatter(std::span<double> values) { PortableRandom(values.size()).shuffle(values); }

}  // namespace

double max_inclusion_std(std::int64_t num_experts, std::int64_t choices) {
  const double mean = static_cast<double>(choices) / static_cast<double>(num_experts);
  return std::sqrt(mean * (1 - mean));  // reached where `choices` experts have 1, the others 0
}

std::vector<double> spread_inclusion(std::int64_t num_experts, std::int64_t choices, double std) {
  const double mean = static_cast<double>(choices) / static_cast<double>(num_experts);
  std::vector<double> inclusion(num_experts, mean);
  if (std <= 0) return inclusion;
  const std::vector<double> shape = falling_shape(num_experts);
  // The deviation grows with the stretch; without clipping it is the stretch itself. The bound on
  // the doubling is for a `std` at its maximum, which a finite stretch only approaches.
  double low = 0;
  double high = std;
  const double max_stretch = 1e3 * static_cast<double>(num_experts);
  for (fill_clipped(shape, high, mean, inclusion); std_of(inclusion) < std && high < max_stretch;
       fill_clipped(shape, high, mean, inclusion)) {
    low = high;
    high *= 2;
  }
  for (int round = 0; round < kBisections; ++round) {
    const double stretch = (low + high) / 2;
    fill_clipped(shape, stretch, mean, inclusion);
    (std_of(inclusion) < std ? low : high) = stretch;
  }
  scatter(inclusion);
  return inclusion;
}

std::vector<double> zipf_inclusion(std::int64_t num_experts, std::int64_t choices,
                                   double exponent) {
  std::vector<double> inclusion(num_experts);
  for (std::int64_t e = 0; e < num_experts; ++e) {
    inclusion[e] = std::pow(static_cast<double>(e + 1), -exponent);
  }
  // Weights fall with e, so the capped experts are a prefix: cap one after the other while the
  // first of the rest would exceed 1. Sums run from the small end, so that none is a difference.
  std::vector<double> rest(inclusion.size());
  std::partial_sum(inclusion.rbegin(), inclusion.rend(), rest.rbegin());
  std::int64_t capped = 0;
  const auto left = [&] { return static_cast<double>(choices - capped); };
  for (; capped < choices && inclusion[capped] * left() >= rest[capped]; ++capped) {
    inclusion[capped] = 1;
  }
  const double factor = capped < choices ? left() / rest[capped] : 0;
  for (std::int64_t e = capped; e < num_experts; ++e) inclusion[e] *= factor;
  return inclusion;
}

}  // namespace comet
