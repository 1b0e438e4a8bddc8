// SPDX-License-Identifier: Apache-2.0
// comet tune: measures which options are best for cases, and keeps them in a profile.
#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/count_text.hpp"
#include "cli/bench_flags.hpp"
#include "cli/bench_progress.hpp"
#include "cli/commands.hpp"
#include "cli/devices.hpp"
#include "cli/exit_code.hpp"
#include "cli/file_flags.hpp"
#include "cli/flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/tune_cases.hpp"
#include "cli/tune_report.hpp"
#include "io/new_file.hpp"
#include "measure/bench_weights.hpp"
#include "measure/tune_case.hpp"
#include "tune/candidates.hpp"
#include "tune/rows_profile.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kMostTried = 24;  // choices of a case, the most promising by the model

struct TuneFlags {
  BenchFlags base;
  TuneGridFlags grid;
  std::string profile;
  std::vector<std::string> rows;
  std::vector<std::string> merged;
  std::int64_t seconds = 15;
  bool calibrate = false;
  bool again = false;
  bool json = false;
  bool has_case = false;  ///< A flag says something about a layer.
};

// What one run of the command has in hand.
class Tuner {
 public:
  Tuner(const TuneFlags& flags, const ProfileOrigin& origin)
      : flags_(flags), path_(flags.profile.empty() ? profile_file_name(origin) : flags.profile) {
    profile_.origin = found_.origin = origin;
    const NewFile probe(path_, "profile");  // before minutes of measuring
    if (!std::filesystem::exists(path_)) return;
    profile_ = read_profile(path_);
    require_origin(profile_, origin, path_);
  }

  void take_rows(std::vector<BenchRecord> rows);
  void merge(const std::vector<std::string>& files);
  void calibrate(const std::vector<BenchCase>& cases, const Devices& devices,
                 const Interrupt& interrupt);
  void tune(const std::vector<BenchCase>& cases, const Devices& devices,
            const Interrupt& interrupt);
  /// Returns the exit code.
  int finish(const Interrupt& interrupt) const;

 private:
  void keep(const MachineModel& fitted);
  /// Writes what was found; other commands may have added to the profile meanwhile.
  void write() { profile_ = add_to_profile_file(found_, path_); }
  /// The profile's row of a case that need not be measured; null if it is to be.
  const ProfileRow* known_row(const TuneCase& of) {
    return flags_.again ? nullptr : find_exact_row(profile_, of, Schedule::comet);
  }
  void tune_one(const BenchCase& bench, const TuneCase& of, const MachineModel& machine,
                BenchMeter& meter);
  void show(const std::string& text, const std::string& json) const {
    print(flags_.json ? json : text);
    finish_output();
  }
  void note(const std::string& text) const {
    if (!flags_.json) print(text);
    finish_output();
  }

  const TuneFlags& flags_;
  const std::string path_;
  Profile profile_;            // as it was read or written last
  Profile found_;              // by this command
  BenchWeightsCache weights_;  // whole models take seconds to draw, and cases share them
  int num_new_ = 0;
  bool is_cut_short_ = false;
};

void Tuner::keep(const MachineModel& fitted) {
  found_.rates = fitted.rates;
  found_.workers = fitted.workers;
  write();
}

// Rows that were measured before stand for measuring now.
void Tuner::take_rows(std::vector<BenchRecord> rows) {
  const std::size_t others = std::erase_if(
      rows, [&](const BenchRecord& row) { return row.device != profile_.origin.device; });
  if (others > 0) {
    note(fmt::format("{} of other devices {} passed over\n", count_text(others, "row"),
                     others == 1 ? "is" : "are"));
  }
  found_ = profile_of_rows(rows);
  const std::size_t before = profile_.rows.size();
  merge_profile(profile_, found_);
  num_new_ = static_cast<int>(profile_.rows.size() - before);
  const RowSplit split = split_rows(rows);
  const MachineModel machine = fit_machine(
      machine_of_device(profile_.origin.backend, profile_.origin.device), split.calibration);
  for (const ProfileRow& row : found_.rows) show(kept_text(row), kept_json(row));
  note("constants from rows with the fewest tokens\n" +
       errors_text("these rows", machine, split.calibration) +
       errors_text("all others, not used for it", machine, split.held_out));
  keep(machine);
}

// Nothing is written before all files have been read.
void Tuner::merge(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const Profile merged = read_profile(file);
    require_origin(merged, profile_.origin, file);
    merge_profile(found_, merged);
  }
  const std::size_t before = profile_.rows.size();
  merge_profile(profile_, found_);
  num_new_ = static_cast<int>(profile_.rows.size() - before);
  write();
}

void Tuner::calibrate(const std::vector<BenchCase>& cases, const Devices& devices,
                      const Interrupt& interrupt) {
  MachineModel start = machine_of_profile(profile_);
  start.workers = devices.workers;
  std::vector<MeasuredCase> measured;
  BenchMeter meter(static_cast<int>(cases.size()));
  for (BenchCase bench : cases) {
    if (interrupt.is_requested()) {
      is_cut_short_ = true;
      return;  // half of a calibration is none
    }
    meter.next_case("calibration");
    bench.rounds = 3;
    bench.check_seconds = 0.2;
    BenchCase named = bench;
    named.link = {};
    const std::vector<TuneConfig> configs =
        calibration_configs(tune_case_of(named, devices.workers, devices.count));
    bench.finalists = configs.size();
    bench.weights = weights_.weights_of(bench);
    const TunedCase tuned = run_tune_case(
        bench, start, configs, [&](const BenchProgress& progress) { meter.show(progress); });
    measured.insert(measured.end(), tuned.measured.begin(), tuned.measured.end());
  }
  meter.clear();
  const MachineModel fitted = fit_machine(start, measured);
  keep(fitted);
  note("calibrated\n" + errors_text("the known constants on these calls", start, measured) +
       errors_text("the calibrated ones on the same calls", fitted, measured));
}

void Tuner::tune_one(const BenchCase& bench, const TuneCase& of, const MachineModel& machine,
                     BenchMeter& meter) {
  const std::vector<RankedConfig> ranked = rank_configs(machine, of, comet_configs(of));
  std::vector<TuneConfig> configs;
  for (std::size_t i = 0; i < std::min(ranked.size(), kMostTried); ++i) {
    configs.push_back(ranked[i].config);
  }
  const TunedCase tuned = run_tune_case(
      bench, machine, configs, [&](const BenchProgress& progress) { meter.show(progress); });
  meter.clear();
  add_row(found_, tuned.row);
  write();
  ++num_new_;
  show(tuned_text(tuned), tuned_json(tuned, ranked.front()));
}

void Tuner::tune(const std::vector<BenchCase>& cases, const Devices& devices,
                 const Interrupt& interrupt) {
  MachineModel machine = machine_of_profile(profile_);
  if (!profile_.rates) machine.workers = devices.workers;
  const auto case_of = [&](const BenchCase& bench) {
    return tune_case_of(bench, devices.workers, devices.count);
  };
  // Known cases take no time: the estimate is of the others.
  BenchMeter meter(
      static_cast<int>(std::count_if(cases.begin(), cases.end(), [&](const BenchCase& bench) {
        return known_row(case_of(bench)) == nullptr;
      })));
  for (BenchCase bench : cases) {
    if (interrupt.is_requested()) {
      is_cut_short_ = true;
      return;
    }
    const TuneCase of = case_of(bench);
    if (const ProfileRow* const known = known_row(of)) {
      show(kept_text(*known), kept_json(*known));
      continue;
    }
    meter.next_case(bench.model);
    bench.suite = "tune";
    bench.check_seconds = 0.5;
    bench.soft_limit_seconds = static_cast<double>(flags_.seconds);
    bench.weights = weights_.weights_of(bench);
    tune_one(bench, of, machine, meter);
  }
}

int Tuner::finish(const Interrupt& interrupt) const {
  if (profile_.rows.empty() && !profile_.rates) {
    note(fmt::format("profile {}: not written, nothing was finished\n", path_));
  } else {
    note(fmt::format("profile {}: {}, {} of them new{}\n", path_,
                     count_text(profile_.rows.size(), "row"), num_new_,
                     profile_.rates ? ", calibrated" : ""));
  }
  return is_cut_short_ && interrupt.is_requested() ? kExitInterrupted : kExitOk;
}

// Of --rows or --merge: what was measured before.
int take_files(const TuneFlags& flags, const Interrupt& interrupt) {
  if (!flags.merged.empty()) {
    Tuner tuner(flags, read_profile(flags.merged.front()).origin);
    tuner.merge(flags.merged);
    return tuner.finish(interrupt);
  }
  std::vector<BenchRecord> rows;
  for (const std::string& file : flags.rows) {
    for (BenchRecord& row : read_bench_rows(file)) rows.push_back(std::move(row));
  }
  Tuner tuner(flags,
              profile_of_rows(std::span(rows).first(std::min<std::size_t>(1, rows.size()))).origin);
  tuner.take_rows(std::move(rows));
  return tuner.finish(interrupt);
}

int run_tune(const TuneFlags& flags, const Ranks& ranks) {
  const bool has_cases = flags.has_case || !flags.grid.is_empty();
  const bool has_files = !flags.rows.empty() || !flags.merged.empty();
  check(has_cases || flags.calibrate || has_files, ErrorCode::invalid_argument,
        "[tune] nothing to do: give a layer (--model or its sizes), a grid (--models), "
        "--calibrate, --rows or --merge");
  check(!has_files ||
            (!has_cases && !flags.calibrate && (flags.rows.empty() || flags.merged.empty())),
        ErrorCode::invalid_argument,
        "[tune] --rows and --merge take what was measured before: no layer and no --calibrate "
        "with them, and one of them at a time");
  const Interrupt interrupt("\ncomet: finishing the case in hand; Ctrl-C again to stop at once\n");
  if (has_files) return take_files(flags, interrupt);
  std::vector<BenchCase> cases;
  if (has_cases) cases = grid_cases(flags.base, flags.grid, ranks);
  const Devices devices = find_devices(flags.base.backend);
  for (const BenchCase& bench : cases) tune_case_of(bench, devices.workers, devices.count);
  Tuner tuner(flags, devices.origin);
  if (flags.calibrate) {
    tuner.calibrate(calibration_cases(flags.base, ranks), devices, interrupt);
  }
  tuner.tune(cases, devices, interrupt);
  return tuner.finish(interrupt);
}

}  // namespace

void add_tune(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<TuneFlags>();
  CLI::App* command = app.add_subcommand(
      "tune", "Measure which options are best for layers, and keep them in a profile");
  add_case_flags(*command, flags->base);
  add_backend(*command, flags->base.backend);
  CLI::Option* const dtype = command->get_option("--dtype");
  dtype->default_str("f32, bf16 on cuda");
  add_grid_flags(*command, flags->grid);
  add_integer(*command, {"--workers", "Threads of each rank on cpu; 0: cores / ranks", 0, 1024},
              flags->base.workers)
      ->group("World");
  command->add_flag("--calibrate", flags->calibrate,
                    "First find this device's constants for predictions, by some short calls");
  command
      ->add_option("--rows", flags->rows,
                   "Measure nothing: take the rows of these files, which comet bench --json wrote, "
                   "of the first row's device")
      ->type_name("FILE");
  command
      ->add_option("--merge", flags->merged,
                   "Measure nothing: take the cases of these profiles of one device; of two of a "
                   "case the later stays, and the constants of the last that has any")
      ->type_name("FILE");
  add_file(*command, "--profile", flags->profile,
           "The profile, made or added to; default: a name made of the device's");
  add_integer(*command,
              {"--seconds", "For each case, about; set-up and verification aside", 1, 3600},
              flags->seconds);
  command->add_flag("--again", flags->again, "Measure cases too that the profile has");
  command->add_flag("--json", flags->json, "One JSON object a case and line instead of text");
  command->footer(
      examples(
          "  comet tune --calibrate --world local:2\n"
          "  comet tune --model qwen2-moe --scale demo --world local:2 --link paced:0.5\n"
          "  comet tune --models mixtral,qwen2-moe --token-counts 8192,32768 --splits 8x1,4x2 \\\n"
          "      --backend cuda --link paced:20\n"
          "  comet tune --rows bench/results/h100.jsonl --profile h100.json\n"
          "  comet tune --merge monday.json tuesday.json --profile both.json\n") +
      "Ctrl-C finishes the case in hand and keeps it; the same command later goes on from "
      "there.\n");
  command->callback([flags, dtype, command, &context] {
    flags->base.is_dtype_given = dtype->count() > 0;
    for (const char* name : {"--model", "--experts", "--topk", "--hidden", "--intermediate"}) {
      flags->has_case |= command->count(name) > 0;
    }
    context.world = &flags->base.world.world;
    context.command = [flags](const Ranks& ranks) {
      ranks.check_alone("comet tune");
      check(ranks.kind() == "local", ErrorCode::unsupported,
            "[tune] --world {}: choices are measured on ranks of one process, --world local",
            ranks.kind());
      return run_tune(*flags, ranks);
    };
  });
}

}  // namespace comet::cli
