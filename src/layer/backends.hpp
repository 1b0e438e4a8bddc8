// SPDX-License-Identifier: Apache-2.0
// What this build can run on: backends and worlds, for `comet info`.
#pragma once

#include <string>
#include <vector>

namespace comet {

struct BuildPart {
  std::string name;
  bool is_built = false;
  std::string detail;  ///< What it is, or how to do without it. One line.
};

/// Built parts first.
std::vector<BuildPart> describe_backends();
/// Built parts first.
std::vector<BuildPart> describe_worlds();

}  // namespace comet
