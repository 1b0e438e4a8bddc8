// SPDX-License-Identifier: Apache-2.0
#include "cli/tune_report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/count_text.hpp"
#include "measure/figures.hpp"

namespace comet::cli {
namespace {

std::string ms_text(double us) { return fmt::format("{:.3f} ms", us / 1000); }

}  // namespace

std::string tune_case_text(const TuneCase& of) {
  return fmt::format("{}, {}, ep {} x tp {}, {}", of.model, count_text(of.tokens, "token"),
                     of.parallel.ep, of.parallel.tp, to_string(of.link));
}

std::string tuned_text(const TunedCase& tuned) {
  const ProfileRow& row = tuned.row;
  const double best = row.best.t_layer_us;
  std::string text = fmt::format("{}\n  {}  {}\n", tune_case_text(row.of), ms_text(best),
                                 to_string(row.best.config, row.of.backend));
  text += fmt::format("  sequential {} ({:.2f}x); ", ms_text(tuned.sequential_us),
                      tuned.sequential_us / best);
  if (row.runner_up) {
    text += fmt::format("runner-up {} with {}; ", ms_text(row.runner_up->t_layer_us),
                        to_string(row.runner_up->config, row.of.backend));
  }
  return text + fmt::format("predicted {} ({:+.0f} %)\n", ms_text(tuned.predicted_us),
                            100 * (tuned.predicted_us / best - 1));
}

std::string tuned_json(const TunedCase& tuned, const RankedConfig& by_model) {
  nlohmann::ordered_json json = profile_row_json(tuned.row);
  json["sequential_us"] = tuned.sequential_us;
  json["predicted_us"] = tuned.predicted_us;
  json["model_choice"] = {{"predicted_us", by_model.predicted_us}};
  json["model_choice"].update(tune_config_json(by_model.config));
  json["checked_tokens"] = tuned.checked_tokens;
  json["measured_now"] = true;
  return json.dump() + "\n";
}

std::string kept_text(const ProfileRow& row) {
  return fmt::format("{}\n  {}  {}, measured {}\n", tune_case_text(row.of),
                     ms_text(row.best.t_layer_us), to_string(row.best.config, row.of.backend),
                     row.date);
}

std::string kept_json(const ProfileRow& row) {
  nlohmann::ordered_json json = profile_row_json(row);
  json["measured_now"] = false;
  return json.dump() + "\n";
}

std::string errors_text(const char* what, const MachineModel& machine,
                        std::span<const MeasuredCase> cases) {
  const std::vector<double> errors = prediction_errors(machine, cases);
  if (errors.empty()) return "";
  return fmt::format("  {}: {} calls, median error {:.1f} %, largest {:.0f} %\n", what,
                     errors.size(), 100 * median(errors),
                     100 * *std::max_element(errors.begin(), errors.end()));
}

}  // namespace comet::cli
