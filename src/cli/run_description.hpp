// SPDX-License-Identifier: Apache-2.0
// What a process was asked to run, compared over the processes of a world before any work.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "comet/world.hpp"

namespace comet::cli {

/// Names and values: version, commit, subcommand, and each of its flags as given or by default. Of
/// --world only that it is this one, which all ranks see.
using RunDescription = std::vector<std::pair<std::string, std::string>>;

RunDescription describe_run(const CLI::App& command);

/// Collective: throws Error(mismatch) on all ranks alike if one runs something else than rank 0,
/// "rank 2 runs model mixtral, rank 0 qwen2-moe".
void check_alike(World& world, const RunDescription& own);

}  // namespace comet::cli
