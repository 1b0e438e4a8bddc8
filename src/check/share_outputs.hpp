// SPDX-License-Identifier: Apache-2.0
// What ranks that are processes got from a case, in every one of them.
#pragma once

#include "check/execute.hpp"

namespace comet {

/// Collective: `outputs` [run][rank] has this rank's entries; those of all others are filled in.
/// After it all processes hold the same, so that all come to the same verdict.
void share_outputs(World& world, Outputs& outputs);

}  // namespace comet
