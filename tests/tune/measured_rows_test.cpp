// SPDX-License-Identifier: Apache-2.0
// The model against measurements: constants that were found by the rows with 8192 tokens predict
// the others, which are of other numbers of tokens and, in part, of a shape and a link that no
// calibration row has. Prints the errors.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "measure/figures.hpp"
#include "tune/bench_rows.hpp"
#include "tune/candidates.hpp"
#include "tune/predict.hpp"
#include "tune/rows_profile.hpp"

namespace comet {
namespace {

std::vector<BenchRecord> rows_of(const char* file, const char* machine) {
  std::vector<BenchRecord> rows = read_bench_rows(std::string(COMET_BENCH_RESULTS) + "/" + file);
  std::erase_if(rows, [&](const BenchRecord& row) {
    return row.device != find_machine(machine).device ||
           row.measured.schedule == Schedule::pipelined;
  });
  return rows;
}

double share_within(double limit, const std::vector<double>& errors) {
  const auto within =
      std::count_if(errors.begin(), errors.end(), [=](double error) { return error <= limit; });
  return static_cast<double>(within) / static_cast<double>(errors.size());
}

void print_errors(const std::string& name, const MachineModel& machine,
                  const std::vector<MeasuredCase>& cases) {
  const std::vector<double> errors = prediction_errors(machine, cases);
  fmt::print(
      "{:<44} {:>4} rows, median error {:5.1f} %, {:3.0f} % of rows within 10 %, worst {:.0f} %\n",
      name, cases.size(), 100 * median(errors), 100 * share_within(0.1, errors),
      100 * *std::max_element(errors.begin(), errors.end()));
}

void expect_good_predictions(const MachineModel& machine,
                             const std::vector<MeasuredCase>& held_out) {
  std::map<std::string, std::vector<MeasuredCase>> by_kind;
  for (const MeasuredCase& one : held_out) {
    const bool is_comet = one.schedule == Schedule::comet;
    by_kind[fmt::format("{}, {}{}, {}", machine.name, to_string(one.schedule),
                        is_comet ? fmt::format(" {}", to_string(one.config.placement)) : "",
                        to_string(one.of.link))]
        .push_back(one);
  }
  for (const auto& [name, cases] : by_kind) print_errors(name, machine, cases);
  print_errors(machine.name + ", all held-out rows", machine, held_out);
  const std::vector<double> errors = prediction_errors(machine, held_out);
  EXPECT_LE(median(errors), 0.10);
  EXPECT_GE(share_within(0.20, errors), 0.9);
}

TEST(MeasuredRows, H100ConstantsPredictWhatTheyWereNotFoundBy) {
  const RowSplit split = split_rows(rows_of("h100.jsonl", "h100"));
  ASSERT_GT(split.held_out.size(), 200U);
  expect_good_predictions(find_machine("h100"), split.held_out);
}

TEST(MeasuredRows, H200ConstantsPredictWhatTheyWereNotFoundBy) {
  const RowSplit split = split_rows(rows_of("node.jsonl", "h200"));
  ASSERT_GT(split.held_out.size(), 30U);
  expect_good_predictions(find_machine("h200"), split.held_out);
}

// The other device's constants are no good start, and calibration must do without one.
TEST(MeasuredRows, CalibrationFromAnotherMachineComesAsFar) {
  const RowSplit split = split_rows(rows_of("h100.jsonl", "h100"));
  const MachineModel& start = find_machine("l20");
  const MachineModel fitted = fit_machine(start, split.calibration);
  const double before = median(prediction_errors(start, split.held_out));
  const double after = median(prediction_errors(fitted, split.held_out));
  fmt::print("h100 by l20's constants: median error {:.1f} %, calibrated {:.1f} %\n", 100 * before,
             100 * after);
  EXPECT_GT(before, 0.10);
  EXPECT_LE(after, 0.10);
}

// What the model would have chosen, among all that was measured of a case on one day, costs little
// over the best of it.
TEST(MeasuredRows, ChoicesOfTheModelAreNearTheBest) {
  std::map<std::string, std::vector<MeasuredCase>> cases;
  for (const BenchRecord& row : rows_of("h100.jsonl", "h100")) {
    const TuneCase& of = row.measured.of;
    if (row.measured.schedule != Schedule::comet || !of.desc.gated) continue;
    cases[fmt::format("{} {} {} {} {}", of.model, of.tokens, of.parallel.ep, to_string(of.link),
                      row.commit)]
        .push_back(row.measured);
  }
  std::vector<double> losses;
  for (const auto& [name, tried] : cases) {
    if (tried.size() < 2) continue;
    const auto predicted = [](const MeasuredCase& one) {
      return predict(find_machine("h100"), one.of, one.schedule, one.config).t_layer_us;
    };
    const auto chosen = std::min_element(
        tried.begin(), tried.end(),
        [&](const MeasuredCase& a, const MeasuredCase& b) { return predicted(a) < predicted(b); });
    const auto best = std::min_element(
        tried.begin(), tried.end(),
        [](const MeasuredCase& a, const MeasuredCase& b) { return a.t_layer_us < b.t_layer_us; });
    losses.push_back(chosen->t_layer_us / best->t_layer_us - 1);
  }
  ASSERT_GT(losses.size(), 50U);
  double sum = 0;
  for (const double loss : losses) sum += loss;
  fmt::print(
      "{} cases with several choices: the model's costs {:.1f} % over the best on average, "
      "{:.0f} % at most\n",
      losses.size(), 100 * sum / static_cast<double>(losses.size()),
      100 * *std::max_element(losses.begin(), losses.end()));
  EXPECT_LE(sum / static_cast<double>(losses.size()), 0.03);
}

}  // namespace
}  // namespace comet
