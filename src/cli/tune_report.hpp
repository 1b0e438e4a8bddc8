// SPDX-License-Identifier: Apache-2.0
// What `comet tune` prints.
#pragma once

#include <span>
#include <string>

#include "measure/tune_case.hpp"
#include "tune/candidates.hpp"

namespace comet::cli {

/// A case in one line, for example "mixtral, 8192 tokens, ep 8 x tp 1, paced:20".
std::string tune_case_text(const TuneCase& of);

/// A case that was tuned, and one that the profile has already. `by_model` is what the model alone
/// would have chosen.
std::string tuned_text(const TunedCase& tuned);
std::string tuned_json(const TunedCase& tuned, const RankedConfig& by_model);
std::string kept_text(const ProfileRow& row);
std::string kept_json(const ProfileRow& row);

/// How well constants predict calls; `what` says which calls those are.
std::string errors_text(const char* what, const MachineModel& machine,
                        std::span<const MeasuredCase> cases);

}  // namespace comet::cli
