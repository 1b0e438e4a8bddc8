// SPDX-License-Identifier: Apache-2.0
// The formulas behind the figures, apart from how the times are taken. Times in microseconds.
#pragma once

#include <cstdint>
#include <span>

#include "comet/layer.hpp"
#include "tune/stage_pair.hpp"

namespace comet {

/// Of an even number of values, the mean of the middle two. Throws Error(invalid_argument) on none.
double median(std::span<const double> values);
/// Largest minus smallest. Throws Error(invalid_argument) on none.
double spread(std::span<const double> values);

/// Bytes of one call.
struct LinkBytes {
  std::int64_t dispatch_busiest = 0;  ///< Of the busiest clock: max over ranks of max(in, out).
  std::int64_t combine_busiest = 0;   ///< See dispatch_busiest.
  std::int64_t total = 0;             ///< Payload over all links, both stages.
  std::int64_t hosts_planned = 0;     ///< Between hosts, with metadata, as the plans have it.
  std::int64_t hosts_sent = 0;        ///< The same as connections were given it.
};
LinkBytes link_bytes(std::span<const CallStats> ranks);

/// Time that the busiest clock of a paced link needs for each stage.
StagePair paced_link_time(const LinkBytes& bytes, double gigabytes_per_second);

/// The rate at which both stages' busiest clocks take `ratio` times `t_compute`. 0, which no paced
/// link has, if no bytes cross a link.
double auto_rate(const LinkBytes& bytes, double t_compute_us, double ratio);

/// t_compute split over the stages by their multiplications: 2 : 1 with a gate, else 1 : 1.
StagePair split_compute(double t_compute_us, bool gated);

/// What is best possible if each stage overlaps only with its own communication.
double stage_bound(const StagePair& compute, const StagePair& link);

/// 1 - (t_layer - t_compute) / t_link: the part of communication that costs no time.
double hidden_share(double t_layer_us, double t_compute_us, double t_link_us);

/// max(t_compute, t_link) / t_layer: the physical bound over what is.
double efficiency(double t_layer_us, double t_compute_us, double t_link_us);

}  // namespace comet
