// SPDX-License-Identifier: Apache-2.0
// Agreement at creation: all ranks throw the same sentence, or none does.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "comet/world.hpp"

namespace comet {

/// Collective. Runs `check` (which throws Error on what only this rank can see) on every rank; if
/// any throws, all ranks throw the first such rank's error. Then compares `hash` over ranks:
/// Error(mismatch) naming the first rank that differs from rank 0.
void agree(World& world, const std::function<void()>& check, std::uint64_t hash,
           const std::string& what);

}  // namespace comet
