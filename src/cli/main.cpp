// SPDX-License-Identifier: Apache-2.0
// The `comet` command: parses, runs the chosen subcommand, and turns failures into one line on
// standard error and an exit code.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/help_format.hpp"
#include "cli/output.hpp"
#include "cli/ranks.hpp"
#include "cli/run_description.hpp"
#include "comet/error.hpp"
#include "comet/version.hpp"

namespace comet::cli {
namespace {

// Every subcommand, in the order of `comet --help`.
constexpr void (*kCommands[])(CLI::App&, Context&) = {
    add_info, add_plan, add_run, add_check, add_bench, add_trace, add_tune, add_report, add_launch,
};

constexpr const char* kDescription =
    "Comet: Mixture-of-Experts layers over many ranks, communication hidden behind computation";

constexpr const char* kFooter = R"(
Start here:
  comet info                                what this build and machine can do
  comet plan --model mixtral --ep 8         who would compute and send what
  comet check --random 20                   do all schedules compute the same, and the right thing?
  comet bench --demo                        what overlap gains, in under a minute
  comet launch --ranks 4 -- check           the same on ranks that are processes

Exit codes:
  0  all is well
  1  a check failed
  2  bad command line or input
  3  a rank failed or did not answer in time (COMET_TIMEOUT_MS)
  4  a fault of Comet itself: please report it
130  comet tune or comet bench --cases was interrupted; what it had found is kept
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
void check_command_name(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0].starts_with('-')) return;
  std::string names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == arguments[0]) return;
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  throw Error(ErrorCode::invalid_argument,
              "[command] unknown subcommand '" + arguments[0] + "': one of " + names);
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
  const CLI::App& parsed = chosen.empty() ? app : *chosen[0];
  for (const CLI::Option* const option : parsed.get_options()) {
    if (option->count() > 1 && option->get_items_expected_max() == 1) {
      return "[command] " + option->get_name() + " is given more than once: " + help;
    }
  }
  const std::string sentence = error.what();
  // Only flags are converted by CLI11; it says "Could not convert: --json = rows.json".
  const std::size_t flag = sentence.find("--");
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr && flag != std::string::npos) {
    return "[command] " + sentence.substr(flag, sentence.find(' ', flag) - flag) +
           " takes no value: " + help;
  }
  return "[command] " + sentence + ": " + help;
}

int run(const std::vector<std::string>& arguments,
        std::unique_ptr<LaunchedGroup> launched) noexcept;

// What follows the first "--" of `comet launch` is another command line.
std::vector<std::string> take_launched(std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] != "launch") return {};
  const auto mark = std::find(arguments.begin(), arguments.end(), "--");
  if (mark == arguments.end()) return {};
  std::vector<std::string> launched(mark + 1, arguments.end());
  arguments.erase(mark, arguments.end());
  return launched;
}

int show(const std::string& text, const Ranks& ranks) {
  if (ranks.is_first()) print(text);
  finish_output();
  return kExitOk;
}

// Parses, and runs the chosen subcommand on its ranks.
int parse_and_run(std::vector<std::string> arguments, Ranks& ranks) {
  CLI::App app(kDescription, "comet");
  Context context;
  context.run_rank = run;
  context.launched = take_launched(arguments);
  set_up(app, context);
  try {
    check_command_name(app, arguments);
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    return show(app.help(), ranks);
  } catch (const CLI::CallForVersion&) {
    return show(app.version() + "\n", ranks);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::invalid_argument, explain(app, error, !arguments.empty()));
  }
  ranks.choose(context.world == nullptr ? WorldChoice{} : *context.world);
  if (context.ranks_backend != nullptr) {
    ranks.join(describe_run(*app.get_subcommands().front()), *context.ranks_backend);
  }
  const int code = context.command(ranks);
  finish_output();
  return ranks.leave(code);
}

int run(const std::vector<std::string>& arguments,
        std::unique_ptr<LaunchedGroup> launched) noexcept {
  Ranks ranks(std::move(launched));
  try {
    return parse_and_run(arguments, ranks);
  } catch (const Error& error) {
    return ranks.fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return ranks.fail(ErrorCode::capacity, "[memory] these sizes need more memory than there is");
  } catch (const std::system_error& error) {
    // What std::thread throws; files have sentences of their own.
    if (error.code() != std::errc::resource_unavailable_try_again) {
      return ranks.fail(ErrorCode::internal, std::string("[internal] ") + error.what());
    }
    return ranks.fail(ErrorCode::capacity,
                      "[threads] the system starts no more threads, by its limits (ulimit -u, "
                      "ulimit -v) or for want of memory: fewer ranks or workers need fewer");
  } catch (const std::exception& error) {
    return ranks.fail(ErrorCode::internal, std::string("[internal] ") + error.what());
  }
}

}  // namespace
}  // namespace comet::cli

int main(int argc, char** argv) {
  comet::cli::reserve_standard_streams();
  return comet::cli::run({argv + std::min(argc, 1), argv + argc}, nullptr);
}
