// SPDX-License-Identifier: Apache-2.0
// The `comet` command: parses, runs the chosen subcommand, and turns failures into one line on
// standard error and an exit code.
#include <CLI/CLI.hpp>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/help_format.hpp"
#include "cli/output.hpp"
#include "comet/error.hpp"
#include "comet/version.hpp"

namespace comet::cli {
namespace {

// Every subcommand, in the order of `comet --help`.
constexpr void (*kCommands[])(CLI::App&, Context&) = {
    add_info, add_plan, add_run, add_check, add_bench, add_trace,
};

constexpr const char* kDescription =
    "Comet: Mixture-of-Experts layers over many ranks, communication hidden behind computation";

constexpr const char* kFooter = R"(
Start here:
  comet info                                what this build and machine can do
  comet plan --model mixtral --ep 8         who would compute and send what
  comet check --random 20                   do all schedules compute the same, and the right thing?
  comet bench --demo                        what overlap gains, in under a minute

Exit codes:
  0  all is well
  1  a check failed
  2  bad command line or input
  3  a rank failed or did not answer in time (COMET_TIMEOUT_MS)
  4  a fault of Comet itself: please report it
Errors are one line on standard error.)";

void set_up(CLI::App& app, Context& context) {
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", std::string("comet ") + COMET_VERSION_STRING,
                       "Print the version and exit");
  app.footer(kFooter);
  for (const auto add : kCommands) add(app, context);
}

// CLI11 would only say that a subcommand is missing.
void check_command_name(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::string names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == argv[1]) return;
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  throw Error(ErrorCode::invalid_argument,
              "[command] unknown subcommand '" + std::string(argv[1]) + "': one of " + names);
}

// One sentence, and where to read on.
std::string explain(const CLI::App& app, const CLI::ParseError& error, bool has_arguments) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const std::string help =
      "see comet" + (chosen.empty() ? "" : " " + chosen[0]->get_name()) + " --help";
  if (!has_arguments) return "[command] a subcommand is missing: " + help;
  const std::vector<std::string> extras = app.remaining(true);
  const bool is_extra = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  if (!extras.empty() && (is_extra || chosen.empty())) {
    return "[command] unexpected argument '" + extras[0] + "': " + help;
  }
  return std::string("[command] ") + error.what() + ": " + help;
}

int parse_and_run(int argc, char** argv) {
  CLI::App app(kDescription, "comet");
  Context context;
  set_up(app, context);
  try {
    check_command_name(app, argc, argv);
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return kExitOk;
  } catch (const CLI::CallForVersion&) {
    print(app.version() + "\n");
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    print_error(explain(app, error, argc > 1));
    return kExitBadInput;
  }
  return context.command();
}

int run(int argc, char** argv) noexcept {
  try {
    const int code = parse_and_run(argc, argv);
    finish_output();
    return code;
  } catch (const Error& error) {
    print_error(error.what());
    return exit_code_of(error.code());
  } catch (const std::bad_alloc&) {
    print_error("[memory] these sizes need more memory than there is");
    return kExitBadInput;
  } catch (const std::exception& error) {
    print_error(std::string("[internal] ") + error.what());
    return kExitInternal;
  }
}

}  // namespace
}  // namespace comet::cli

int main(int argc, char** argv) {
  comet::cli::reserve_standard_streams();
  return comet::cli::run(argc, argv);
}
