// SPDX-License-Identifier: Apache-2.0
// What `comet info` says of tuning: the profile in force, and what a layer would choose.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "cli/workspace_report.hpp"
#include "tune/choose.hpp"

namespace comet::cli {

struct TuningReport {
  std::string profile;  ///< The file of COMET_PROFILE; empty if none is named.
  std::string state;    ///< What it holds, or why it is not used.
  std::string machine;  ///< Whose constants predict.
  /// For a layer on a link with a benchmark's workers.
  std::optional<TuneCase> of = {};
  std::optional<Choice> choice = {};  ///< See `of`.
};

/// `layer` may be null. Throws Error(unsupported) if the backend has nothing to run on.
TuningReport describe_tuning(Backend backend, const WorkspaceQuery* layer, const LinkSpec& link);

std::string tuning_text(const TuningReport& report);
nlohmann::ordered_json tuning_json(const TuningReport& report);

}  // namespace comet::cli
