// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_predict.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "cli/file_flags.hpp"
#include "cli/flags.hpp"
#include "cli/shared_flags.hpp"
#include "comm/link_spec.hpp"
#include "tune/profile.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kChoicesShown = 3;
constexpr const char* kPredictGroup = "Prediction";

MachineModel asked_machine(const PredictFlags& flags) {
  check(flags.machine.empty() || flags.profile.empty(), ErrorCode::invalid_argument,
        "[plan] --machine and --profile both name a machine: give one");
  if (!flags.profile.empty()) return machine_of_profile(read_profile(flags.profile));
  return find_machine(flags.machine.empty() ? "h100" : flags.machine);
}

TuneCase case_of_plan(const PredictFlags& flags, const PlanQuery& query,
                      const MachineModel& machine, std::int64_t tokens) {
  const std::int64_t ranks = query.parallel.world_size();
  const std::int64_t shared = flags.ranks_per_device;
  check(shared <= ranks, ErrorCode::invalid_argument,
        "[predict] --ranks-per-device: {}, at most the {} ranks that there are", shared, ranks);
  check_link(flags.link, machine.backend);
  TuneCase of;
  of.desc = query.desc;
  of.parallel = query.parallel;
  of.tokens = tokens;
  of.backend = machine.backend;
  of.link = flags.link;
  of.ranks_per_device = static_cast<int>(shared);
  of.workers = std::max(1, machine.workers / of.ranks_per_device);
  // Ranks that share a GPU get multiples of eight of its multiprocessors.
  if (machine.backend == Backend::cuda && shared > 1 && of.workers >= 8)
    of.workers -= of.workers % 8;
  if (flags.workers == 0) return of;
  // Threads may be more than processors, and multiprocessors not.
  const std::int64_t most = std::max<std::int64_t>(1, machine.workers / shared);
  check(machine.backend == Backend::cpu || flags.workers <= most, ErrorCode::invalid_argument,
        "[predict] --workers: {}, at most the {} multiprocessors that machine {} has for a rank",
        flags.workers, most, machine.name);
  of.workers = static_cast<int>(flags.workers);
  return of;
}

std::string milliseconds_text(double us) { return fmt::format("{:.3f} ms", us / 1000); }

std::string link_line(const PredictReport& report) {
  const TuneCase& of = report.of;
  if (of.link.kind != LinkSpec::Kind::native) return "link " + to_string(of.link);
  if (of.ranks_per_device >= of.parallel.world_size()) return "no link: ranks share a memory";
  return fmt::format("native link of {:.4g} GB/s", report.machine.rates.link_gbs);
}

}  // namespace

void add_predict_flags(CLI::App& app, PredictFlags& flags) {
  std::string names;
  for (const MachineModel& machine : known_machines()) {
    names += (names.empty() ? "" : "|") + machine.name;
  }
  app.add_flag("--predict", flags.wanted,
               "Also predict the times of sequential and comet by a model; nothing is run. Each of "
               "the flags below asks for that too")
      ->group(kPredictGroup);
  app.add_option("--machine", flags.machine, "Whose rates; docs/tuning.md says where they are from")
      ->type_name(names)
      ->default_str("h100")
      ->group(kPredictGroup);
  add_file(app, "--profile", flags.profile, "In place of --machine: a calibrated profile's")
      ->group(kPredictGroup);
  add_link(app, flags.link);
  app.get_option("--link")->group(kPredictGroup);
  add_integer(app, {"--ranks-per-device", "Ranks that share a GPU, or a processor", 1, 1024},
              flags.ranks_per_device)
      ->group(kPredictGroup);
  add_integer(app,
              {"--workers", "Multiprocessors, or threads, of a rank; 0: its share of the machine's",
               0, 1024},
              flags.workers)
      ->group(kPredictGroup);
}

PredictReport predict_plan(const PredictFlags& flags, const PlanQuery& query,
                           const PlanSummary& plan, std::int64_t tokens) {
  PredictReport report{.machine = asked_machine(flags), .of = {}, .schedules = {}};
  report.of = case_of_plan(flags, query, report.machine, tokens);
  const TuneCase& of = report.of;
  // An equal plan of other groups differs in the order of its tiles only.
  const CaseLoad load = planned_load(of, plan);
  const auto predicted = [&](Schedule schedule, const TuneConfig& config) {
    return PredictedSchedule{schedule, config, predict(report.machine, of, load, schedule, config)};
  };
  std::vector<PredictedSchedule> choices;
  for (const TuneConfig& config : comet_configs(of)) {
    choices.push_back(predicted(Schedule::comet, config));
  }
  std::stable_sort(choices.begin(), choices.end(),
                   [](const PredictedSchedule& a, const PredictedSchedule& b) {
                     return a.prediction.t_layer_us < b.prediction.t_layer_us;
                   });
  choices.resize(std::min(choices.size(), kChoicesShown));
  report.schedules = std::move(choices);
  report.schedules.insert(report.schedules.begin(), predicted(Schedule::sequential, {}));
  return report;
}

std::string predict_text(const PredictReport& report) {
  const Prediction& sequential = report.schedules.front().prediction;
  std::string text = fmt::format(
      "\nPREDICTED for machine {}, nothing was run; {} workers a rank, {}\n  rates: {}\n",
      report.machine.name, report.of.workers, link_line(report), report.machine.source);
  text += fmt::format("  computation alone {}, communication alone {}, plan {}\n",
                      milliseconds_text(sequential.t_compute_us),
                      milliseconds_text(sequential.t_link_us),
                      milliseconds_text(sequential.t_plan_us + sequential.t_publish_us));
  for (const PredictedSchedule& one : report.schedules) {
    text += fmt::format("  {:<11} {:>12} {:>6.2f}x", to_string(one.schedule),
                        milliseconds_text(one.prediction.t_layer_us),
                        sequential.t_layer_us / one.prediction.t_layer_us);
    if (one.schedule == Schedule::comet) text += "  " + to_string(one.config, report.of.backend);
    text += "\n";
  }
  return text;
}

nlohmann::ordered_json predict_json(const PredictReport& report) {
  nlohmann::ordered_json json;
  json["machine"] = report.machine.name;
  json["source"] = report.machine.source;
  json["link"] = to_string(report.of.link);
  json["workers"] = report.of.workers;
  json["ranks_per_device"] = report.of.ranks_per_device;
  json["schedules"] = nlohmann::ordered_json::array();
  for (const PredictedSchedule& one : report.schedules) {
    nlohmann::ordered_json row = {
        {"schedule", to_string(one.schedule)},       {"predicted_us", one.prediction.t_layer_us},
        {"compute_us", one.prediction.t_compute_us}, {"link_us", one.prediction.t_link_us},
        {"plan_us", one.prediction.t_plan_us},       {"publish_us", one.prediction.t_publish_us}};
    if (one.schedule == Schedule::comet) row.update(tune_config_json(one.config));
    json["schedules"].push_back(row);
  }
  return json;
}

}  // namespace comet::cli
