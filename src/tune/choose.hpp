// SPDX-License-Identifier: Apache-2.0
// Chooses a case's options: from a profile if it has the case or a near one, else by the model.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tune/profile.hpp"

namespace comet {

/// What is known of the device that a layer runs on.
struct TuningState {
  MachineModel machine;                 ///< Of the profile, if it has constants.
  std::optional<Profile> profile = {};  ///< None if there is none, or it cannot be used.
  std::string note = {};  ///< Why a profile was refused, in one sentence; empty if none was.
};

/// Reads the profile at `path`, if that is not empty. One that is damaged, of another version or of
/// another device is not used, and the note says so: a layer must not fail for it.
TuningState load_tuning(const ProfileOrigin& here, const std::filesystem::path& path);

/// The state of the profile that COMET_PROFILE names, read at the first call of this process for an
/// origin and kept; thread-safe.
const TuningState& current_tuning(const ProfileOrigin& here);

/// A choice and where it comes from.
struct Choice {
  /// Which of the sources had it.
  enum class Source : std::uint8_t {
    profile,  ///< This very case was measured.
    nearest,  ///< The nearest number of tokens was.
    model,    ///< Nothing near was; predicted.
  };
  TuneConfig config;
  Source source = Source::model;
  std::int64_t tokens = 0;  ///< Of the row that was taken, or of the case.
  double t_layer_us = 0;    ///< Measured for that row, or predicted.
};

/// "profile", "nearest" or "model".
std::string_view to_string(Choice::Source source) noexcept;

/// For example "groups 4, panel 512, n_c 16/16 warps: measured with 8192 tokens, 2.0 times fewer",
/// than `of` has.
std::string explain_choice(const Choice& choice, const TuneCase& of);

/// For schedule comet. Deterministic: the same state and case give the same choice on every rank.
Choice choose_config(const TuningState& state, const TuneCase& of);

}  // namespace comet
