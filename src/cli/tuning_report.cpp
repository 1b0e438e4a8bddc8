// SPDX-License-Identifier: Apache-2.0
#include "cli/tuning_report.hpp"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/count_text.hpp"
#include "base/env.hpp"
#include "cli/devices.hpp"
#include "measure/tune_case.hpp"
#include "tune/profile.hpp"

namespace comet::cli {
namespace {

std::string state_of(const TuningState& tuning) {
  if (!tuning.note.empty()) return "refused: " + tuning.note;
  if (!tuning.profile) return "none: choices are predicted";
  return count_text(tuning.profile->rows.size(), "case") + " of " + tuning.profile->origin.device;
}

}  // namespace

TuningReport describe_tuning(Backend backend, const WorkspaceQuery* layer, const LinkSpec& link) {
  const Devices devices = find_devices(backend);
  const TuningState& tuning = current_tuning(devices.origin);
  TuningReport report{.profile = env().profile,
                      .state = state_of(tuning),
                      .machine = tuning.machine.name + ", " + tuning.machine.source};
  if (layer == nullptr) return report;
  BenchCase bench;
  bench.desc = layer->desc;
  bench.parallel = layer->parallel;
  bench.tokens = layer->tokens;
  bench.backend = backend;
  bench.link = link;
  report.of = tune_case_of(bench, devices.workers, devices.count);
  report.choice = choose_config(tuning, *report.of);
  return report;
}

std::string tuning_text(const TuningReport& report) {
  std::string text = fmt::format("\ntuning\n  {:<10} {}{}\n  {:<10} {}\n", "profile",
                                 report.profile.empty() ? "" : report.profile + ", ", report.state,
                                 "model", report.machine);
  if (report.choice) {
    text += fmt::format("  {:<10} {}\n", "choice", explain_choice(*report.choice, *report.of));
  }
  return text;
}

nlohmann::ordered_json tuning_json(const TuningReport& report) {
  nlohmann::ordered_json json = {
      {"profile", report.profile}, {"state", report.state}, {"machine", report.machine}};
  if (report.choice) {
    nlohmann::ordered_json& choice = json["choice"];
    choice = {{"source", to_string(report.choice->source)},
              {"tokens", report.choice->tokens},
              {"t_layer_us", report.choice->t_layer_us},
              {"workers", report.of->workers}};
    choice.update(tune_config_json(report.choice->config));
  }
  return json;
}

}  // namespace comet::cli
