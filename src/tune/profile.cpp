// SPDX-License-Identifier: Apache-2.0
#include "tune/profile.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/check.hpp"
#include "io/json.hpp"

namespace comet {
namespace {

constexpr double kFarthestTokens = 4;  // beyond it a model of the machine knows better

double ratio_of(std::int64_t a, std::int64_t b) {
  const auto low = static_cast<double>(std::max<std::int64_t>(1, std::min(a, b)));
  return static_cast<double>(std::max<std::int64_t>(1, std::max(a, b))) / low;
}

}  // namespace

std::optional<ProfileMatch> find_row(const Profile& profile, const TuneCase& of,
                                     Schedule schedule) {
  ProfileMatch best;
  for (const ProfileRow& row : profile.rows) {
    if (row.schedule != schedule || !is_same_but_tokens(row.of, of)) continue;
    const double ratio = ratio_of(row.of.tokens, of.tokens);
    if (best.row == nullptr || ratio < best.tokens_ratio) best = {&row, ratio};
  }
  if (best.row == nullptr || best.tokens_ratio > kFarthestTokens) return std::nullopt;
  return best;
}

ProfileRow* find_exact_row(Profile& profile, const TuneCase& of, Schedule schedule) {
  const auto same =
      std::find_if(profile.rows.begin(), profile.rows.end(), [&](const ProfileRow& row) {
        return row.schedule == schedule && row.of.tokens == of.tokens &&
               is_same_but_tokens(row.of, of);
      });
  return same == profile.rows.end() ? nullptr : &*same;
}

void add_row(Profile& profile, ProfileRow row) {
  ProfileRow* const same = find_exact_row(profile, row.of, row.schedule);
  if (same == nullptr) {
    profile.rows.push_back(std::move(row));
  } else if (same->date <= row.date) {
    *same = std::move(row);
  }
}

void merge_profile(Profile& into, const Profile& from) {
  require_origin(from, into.origin, "merged profile");
  if (from.rates) {
    into.rates = from.rates;
    into.workers = from.workers;
  }
  for (const ProfileRow& row : from.rows) add_row(into, row);
}

void require_origin(const Profile& profile, const ProfileOrigin& here, const std::string& source) {
  check(profile.origin == here, ErrorCode::mismatch,
        "[profile] {}: of {} {} in a {} world, here it is {} {} in a {} world", source,
        to_string(profile.origin.backend), quote_text(profile.origin.device), profile.origin.world,
        to_string(here.backend), quote_text(here.device), here.world);
}

std::string profile_file_name(const ProfileOrigin& origin) {
  std::string name;
  for (const char c : origin.device + "-" + origin.world) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) {
      name += static_cast<char>(std::tolower(byte));
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  return name + ".json";
}

MachineModel machine_of_profile(const Profile& profile) {
  MachineModel machine = machine_of_device(profile.origin.backend, profile.origin.device);
  if (profile.rates) {
    machine.rates = *profile.rates;
    machine.device = profile.origin.device;
    machine.source = "calibrated on " + profile.origin.device;
    machine.workers = profile.workers;
  }
  return machine;
}

}  // namespace comet
