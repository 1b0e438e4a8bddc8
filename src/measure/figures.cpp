// SPDX-License-Identifier: Apache-2.0
#include "measure/figures.hpp"

#include <algorithm>
#include <vector>

#include "base/check.hpp"

namespace comet {

double median(std::span<const double> values) {
  check(!values.empty(), ErrorCode::invalid_argument, "[measure] median of no values");
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  if (sorted.size() % 2 == 1) return sorted[middle];
  return (sorted[middle - 1] + sorted[middle]) / 2;
}

double spread(std::span<const double> values) {
  check(!values.empty(), ErrorCode::invalid_argument, "[measure] spread of no values");
  const auto [smallest, largest] = std::minmax_element(values.begin(), values.end());
  return *largest - *smallest;
}

LinkBytes link_bytes(std::span<const CallStats> ranks) {
  LinkBytes bytes;
  for (const CallStats& rank : ranks) {
    bytes.dispatch_busiest =
        std::max({bytes.dispatch_busiest, rank.dispatch_bytes_in, rank.dispatch_bytes_out});
    bytes.combine_busiest =
        std::max({bytes.combine_busiest, rank.combine_bytes_in, rank.combine_bytes_out});
    bytes.hosts_planned += rank.host_bytes_planned;
    bytes.hosts_sent += rank.host_bytes_sent;
    bytes.total += rank.dispatch_bytes_in + rank.combine_bytes_in;  // each byte goes in once
  }
  return bytes;
}

StagePair paced_link_time(const LinkBytes& bytes, double gigabytes_per_second) {
  check(gigabytes_per_second > 0, ErrorCode::invalid_argument,
        "[measure] link rate: {} GB/s, needs more than 0", gigabytes_per_second);
  const auto time = [&](std::int64_t count) {  // 1 GB/s is 1000 bytes per microsecond
    return static_cast<double>(count) / (1000.0 * gigabytes_per_second);
  };
  return {time(bytes.dispatch_busiest), time(bytes.combine_busiest)};
}

double auto_rate(const LinkBytes& bytes, double t_compute_us, double ratio) {
  check(t_compute_us > 0 && ratio > 0, ErrorCode::invalid_argument,
        "[measure] auto link: t_compute {} us and ratio {}, both need more than 0", t_compute_us,
        ratio);
  const auto busiest = static_cast<double>(bytes.dispatch_busiest + bytes.combine_busiest);
  return busiest / (1000.0 * ratio * t_compute_us);
}

StagePair split_compute(double t_compute_us, bool gated) {
  const double first = gated ? 2.0 / 3.0 : 0.5;
  return {first * t_compute_us, (1 - first) * t_compute_us};
}

double stage_bound(const StagePair& compute, const StagePair& link) {
  return std::max(compute.first, link.first) + std::max(compute.second, link.second);
}

double hidden_share(double t_layer_us, double t_compute_us, double t_link_us) {
  return 1 - (t_layer_us - t_compute_us) / t_link_us;
}

double efficiency(double t_layer_us, double t_compute_us, double t_link_us) {
  return std::max(t_compute_us, t_link_us) / t_layer_us;
}

}  // namespace comet
