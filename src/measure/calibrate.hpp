// SPDX-License-Identifier: Apache-2.0
// Finds the rate of a `paced:auto:<r>` link by measuring.
#pragma once

#include "comet/layer.hpp"
#include "measure/figures.hpp"

namespace comet {

/// The bytes of a call of this rank and all others. Collective.
LinkBytes gather_link_bytes(World& world, const CallStats& mine);

/// Median t_compute of `repeats` replays of the layer's last call, in microseconds. Collective.
double measure_compute(MoeLayer& layer, int repeats);

/// Sets the link at which both stages' transfers alone take `ratio` times `t_compute_us`, and
/// returns it. Throws Error(invalid_argument) if the call moved no bytes between ranks. Collective;
/// arguments must be equal on all ranks.
LinkSpec calibrate_link(World& world, const LinkBytes& bytes, double t_compute_us, double ratio);

}  // namespace comet
