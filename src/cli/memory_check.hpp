// SPDX-License-Identifier: Apache-2.0
// Whether what a command is asked for fits into memory: Linux gives memory away that it does not
// have, and ends the process, or another, that uses it.
#pragma once

#include <cstdint>
#include <string>

#include "cli/workspace_report.hpp"

namespace comet::cli {

/// Bytes of the experts' weights.
double bytes_of_experts(const MoeDesc& desc);

/// Bytes that a call of all ranks touches, if these are threads of this process: tokens and results
/// (`matrices` of [tokens, H]), router logits, choices, and on cpu workspaces, of whose partial
/// sums only those that K choices can need. What layers keep beside them is not counted. Throws as
/// describe_workspace.
double call_bytes(const WorkspaceQuery& query, int matrices);

/// Throws Error(capacity), "[memory] <what> take ... and ... are available: <advice>", if `bytes`
/// are not there.
void check_fits_memory(const std::string& what, double bytes, const std::string& advice);

}  // namespace comet::cli
