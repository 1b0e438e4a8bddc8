// SPDX-License-Identifier: Apache-2.0
// Profile: what was measured to be best on one device and kind of world, kept in a file.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tune/machine_model.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// A choice as it was timed.
struct TimedConfig {
  TuneConfig config;
  double t_layer_us = 0;
};

/// The best of one case.
struct ProfileRow {
  TuneCase of;
  Schedule schedule = Schedule::comet;
  TimedConfig best;
  std::optional<TimedConfig> runner_up;  ///< None if nothing else was tried.
  std::string commit;                    ///< Of the Comet that measured.
  std::string date;                      ///< ISO 8601, UTC, seconds: later ones sort behind.
};

/// Where a profile's rows hold.
struct ProfileOrigin {
  Backend backend = Backend::cpu;
  std::string device;           ///< The GPU's or processor's name.
  std::string world = "local";  ///< World::kind().

  bool operator==(const ProfileOrigin&) const = default;
};

/// All that is known of one device.
struct Profile {
  ProfileOrigin origin;
  /// Constants that calibration found; none if it was not calibrated.
  std::optional<MachineRates> rates;
  int workers = 0;  ///< Multiprocessors or processors of the device; 0 if not calibrated.
  std::vector<ProfileRow> rows;  ///< At most one for a case, tokens included, and a schedule.
};

/// A row for a case. `tokens_ratio` is the larger of both numbers of tokens over the smaller; 1 if
/// the row is of the very case.
struct ProfileMatch {
  const ProfileRow* row = nullptr;
  double tokens_ratio = 1;
};

/// The row of the case; else the nearest in tokens, by ratio, of those that are the same in all
/// else, if it is within a factor of 4. The match points into `profile`.
std::optional<ProfileMatch> find_row(const Profile& profile, const TuneCase& of, Schedule schedule);

/// The row of the very case, tokens included; null if there is none.
ProfileRow* find_exact_row(Profile& profile, const TuneCase& of, Schedule schedule);

/// Adds a row, in place of an older one of the same case.
void add_row(Profile& profile, ProfileRow row);

/// Adds `from`'s rows to `into`; of two for the same case the later one stays, as do rates of
/// `from`. Throws Error(mismatch) if they are of different devices or worlds.
void merge_profile(Profile& into, const Profile& from);

/// Throws Error(io), Error(format) if the file is damaged or of another version, each with one
/// sentence that names it.
Profile read_profile(const std::filesystem::path& path);

/// Throws Error(mismatch) if the profile is of another device or world.
void require_origin(const Profile& profile, const ProfileOrigin& here, const std::string& source);

/// Whole or not at all. Throws Error(io).
void write_profile(const Profile& profile, const std::filesystem::path& path);

/// Adds what was `found` to the profile at `path` as it is by now, so that what other processes
/// have added meanwhile stays; makes the file if there is none. Returns what the file holds then.
/// Throws as read_profile, require_origin and write_profile; the file is then as before.
Profile add_to_profile_file(const Profile& found, const std::filesystem::path& path);

/// A choice as all that is written says it: one key for each of its members.
nlohmann::ordered_json tune_config_json(const TuneConfig& config);

/// A row as it stands in the file.
nlohmann::ordered_json profile_row_json(const ProfileRow& row);

/// For example "nvidia-h100-80gb-hbm3-local.json".
std::string profile_file_name(const ProfileOrigin& origin);

/// The machine of a profile: its own rates, or else those of the known machine of its device.
MachineModel machine_of_profile(const Profile& profile);

}  // namespace comet
