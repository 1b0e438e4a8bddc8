// SPDX-License-Identifier: Apache-2.0
// What every world does with a LinkSpec before it uses it.
#pragma once

#include "comet/world.hpp"
#include "comm/device_ranks.hpp"

namespace comet {

/// Throws Error(invalid_argument) if a paced link has neither a rate nor a ratio in range, or the
/// backend has no such link.
void check_link(const LinkSpec& link, Backend backend = Backend::cpu);

/// Throws, on all ranks alike, if ranks that are processes cannot have the link. Emulated clocks
/// lie in GPU memory that all ranks reach: Error(unsupported) where ranks have no GPUs (`device` is
/// null), or where one puts to others. Error(invalid_argument) as check_link.
void check_process_link(const LinkSpec& link, const ProcessDevice* device);

bool is_same_link(const LinkSpec& a, const LinkSpec& b) noexcept;

/// The rate to give to PacedLink::set_rate: 0 if native, or if it is still to be measured.
double pacing_rate(const LinkSpec& link) noexcept;

}  // namespace comet
