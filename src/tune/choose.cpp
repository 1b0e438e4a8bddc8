// SPDX-License-Identifier: Apache-2.0
#include "tune/choose.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <utility>

#include "base/env.hpp"
#include "base/name_table.hpp"
#include "tune/candidates.hpp"

namespace comet {
namespace {

constexpr NameTable<Choice::Source, 3> kSources{{{Choice::Source::profile, "profile"},
                                                 {Choice::Source::nearest, "nearest"},
                                                 {Choice::Source::model, "model"}}};

}  // namespace

std::string_view to_string(Choice::Source source) noexcept { return name_of(kSources, source); }

TuningState load_tuning(const ProfileOrigin& here, const std::filesystem::path& path) {
  TuningState state{.machine = machine_of_device(here.backend, here.device)};
  if (path.empty()) return state;
  try {
    Profile profile = read_profile(path);
    require_origin(profile, here, path.string());
    state.machine = machine_of_profile(profile);
    state.profile = std::move(profile);
  } catch (const Error& error) {
    state.note = error.what();
  }
  return state;
}

const TuningState& current_tuning(const ProfileOrigin& here) {
  static std::mutex mutex;
  static std::deque<std::pair<ProfileOrigin, TuningState>> known;  // whose places stay
  const std::scoped_lock lock(mutex);
  for (const auto& [origin, state] : known) {
    if (origin == here) return state;
  }
  return known.emplace_back(here, load_tuning(here, env().profile)).second;
}

std::string explain_choice(const Choice& choice, const TuneCase& of) {
  const std::string what = to_string(choice.config, of.backend);
  if (choice.source == Choice::Source::model) return what + ": by the model, PREDICTED";
  // Choices are kept for rounded numbers of tokens, so it is not the source that tells.
  if (choice.tokens == of.tokens) return what + ": measured, as the profile says";
  const auto tokens = static_cast<double>(std::max<std::int64_t>(1, of.tokens));
  const auto other = static_cast<double>(std::max<std::int64_t>(1, choice.tokens));
  return fmt::format("{}: measured with {} tokens, {:.2g} times {}", what, choice.tokens,
                     std::max(tokens, other) / std::min(tokens, other),
                     other > tokens ? "more" : "fewer");
}

Choice choose_config(const TuningState& state, const TuneCase& of) {
  if (state.profile) {
    if (const auto match = find_row(*state.profile, of, Schedule::comet)) {
      return {
          .config = match->row->best.config,
          .source = match->tokens_ratio == 1 ? Choice::Source::profile : Choice::Source::nearest,
          .tokens = match->row->of.tokens,
          .t_layer_us = match->row->best.t_layer_us};
    }
  }
  const RankedConfig best = rank_configs(state.machine, of, comet_configs(of)).front();
  return {.config = best.config,
          .source = Choice::Source::model,
          .tokens = of.tokens,
          .t_layer_us = best.predicted_us};
}

}  // namespace comet
