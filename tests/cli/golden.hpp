// SPDX-License-Identifier: Apache-2.0
// Expected outputs as files: readable in review, and rewritten by COMET_UPDATE_GOLDEN=1.
#pragma once

#include <string>

namespace comet::cli {

/// Compares `text` with golden/<name>; reports a GoogleTest failure with the first line that
/// differs.
void expect_golden(const std::string& name, const std::string& text);

}  // namespace comet::cli
