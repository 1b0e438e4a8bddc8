// SPDX-License-Identifier: Apache-2.0
// comet report: rows of experiments and benchmarks as one page.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "base/count_text.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/file_flags.hpp"
#include "cli/flags.hpp"
#include "cli/output.hpp"
#include "cli/report_page.hpp"
#include "io/new_file.hpp"

namespace comet::cli {
namespace {

struct ReportFlags {
  std::vector<std::string> rows;
  std::string out = "report.html";
};

int run_report(const ReportFlags& flags) {
  for (const std::string& rows : flags.rows) {
    check_apart({"--out", flags.out}, {"the rows", rows});
  }
  const Report report = read_report(flags.rows);
  NewFile file(flags.out, "report");
  file.append(report_html(report));
  file.commit();
  std::size_t num_rows = 0, num_pictures = 0;
  for (const ReportPart& part : report.parts) {
    num_rows += part.rows.size();
    num_pictures += part.picture.empty() ? 0 : 1;
  }
  print(fmt::format("report {}: {}, {}, {}\n", flags.out,
                    report.parts.size() == 1
                        ? "1 experiment or suite"
                        : fmt::format("{} experiments or suites", report.parts.size()),
                    count_text(num_rows, "row"), count_text(num_pictures, "picture")));
  return kExitOk;
}

}  // namespace

void add_report(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<ReportFlags>();
  CLI::App* command = app.add_subcommand(
      "report", "Make one HTML page of rows of experiments, beside the paper's figures");
  command
      ->add_option("rows", flags->rows,
                   "Files of rows, which bench/experiments/run.py or comet bench --json wrote; "
                   "pictures are taken from <experiment>.svg beside them")
      ->type_name("ROWS")
      ->required();
  add_file(*command, "-o,--out", flags->out, "The page; it needs no other file")
      ->default_str(flags->out);
  command->footer(
      examples("  comet report build/experiments/rows.jsonl -o report.html\n"
               "  comet report bench/results/h100.jsonl bench/results/node.jsonl -o gpus.html\n"));
  command->callback([flags, &context] {
    context.command = [flags](const Ranks& ranks) {
      ranks.check_alone("comet report");
      return run_report(*flags);
    };
  });
}

}  // namespace comet::cli
