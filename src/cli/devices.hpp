// SPDX-License-Identifier: Apache-2.0
// The devices of this machine that calls run on, as profiles name them.
#pragma once

#include "comet/world.hpp"
#include "tune/profile.hpp"

namespace comet::cli {

struct Devices {
  ProfileOrigin origin;  ///< Of the first.
  int workers = 0;       ///< Multiprocessors of a GPU, or the host's processors.
  int count = 0;         ///< GPUs; 0 on cpu.
};

/// Throws Error(unsupported) if `backend` has nothing to run on.
Devices find_devices(Backend backend);

}  // namespace comet::cli
