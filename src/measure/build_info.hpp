// SPDX-License-Identifier: Apache-2.0
// What this binary was built from. The values are written by cmake/CometEvidence.cmake.
#pragma once

namespace comet {

/// Commit of the source tree, with "-dirty" if files that count as evidence differ from it;
/// "unknown" where the build had no git.
const char* build_commit();

/// SHA-256 over the sources that decide what is measured and how: two rows with the same evidence
/// come from the same code, whatever their commits.
const char* build_evidence();

}  // namespace comet
