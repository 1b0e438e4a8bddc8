// SPDX-License-Identifier: Apache-2.0
// Dropping choices beyond what an expert may take.
#pragma once

#include <cstdint>

#include "comet/router.hpp"

namespace comet {

/// Walks the choices in token order, then choice order; each expert keeps its first `capacity`, and
/// the others become id -1 with weight 0 and are counted in routing.dropped. The weights that stay
/// are not rescaled. `capacity` is at least 1.
void apply_capacity(std::int64_t capacity, std::int64_t num_experts, Routing& routing);

}  // namespace comet
