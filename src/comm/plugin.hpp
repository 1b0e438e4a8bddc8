// SPDX-License-Identifier: Apache-2.0
// Parts that are linked with an optional library and loaded when they are wanted, so that all else
// runs without it.
#pragma once

#include <string>

namespace comet {

/// A loaded plugin, which stays loaded, or why there is none.
struct Plugin {
  void* handle = nullptr;  ///< dlopen's.
  std::string reason;      ///< A part of a sentence; empty if there is a handle.
};

/// Loads `name` ("libcomet_mpi.so") from beside the library or program that this code is in, where
/// an install puts it, or where the loader looks; with its symbols for all, since what it is linked
/// with opens parts of its own that need them.
Plugin load_plugin(const char* name);

}  // namespace comet
