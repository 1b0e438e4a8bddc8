// SPDX-License-Identifier: Apache-2.0
// What every world does with a LinkSpec before it uses it.
#pragma once

#include "comet/world.hpp"

namespace comet {

/// Throws Error(invalid_argument) if a paced link has neither a rate nor a ratio in range, or the
/// backend has no such link.
void check_link(const LinkSpec& link, Backend backend = Backend::cpu);

bool is_same_link(const LinkSpec& a, const LinkSpec& b) noexcept;

/// The rate to give to PacedLink::set_rate: 0 if native, or if it is still to be measured.
double pacing_rate(const LinkSpec& link) noexcept;

}  // namespace comet
