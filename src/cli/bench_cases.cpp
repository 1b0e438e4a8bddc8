// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_cases.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <iterator>
#include <optional>
#include <sstream>

#include "base/check.hpp"
#include "base/read_number.hpp"
#include "cli/flags.hpp"
#include "io/json.hpp"
#include "io/text_file.hpp"
#include "layer/call_options.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 24;

// The numbers of "4:512:2/1" into `values`, and what follows them; false if there are fewer.
bool take_numbers(std::string_view& text, std::int64_t (&values)[4]) {
  constexpr std::string_view kEnds = "::/";
  for (std::size_t i = 0; i < std::size(values); ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), values[i]);
    if (error != std::errc() || values[i] < 0 || values[i] > 1 << 20) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (i == kEnds.size()) return true;
    if (text.empty() || text.front() != kEnds[i]) return false;
    text.remove_prefix(1);
  }
  return true;
}

// The waves of ":warps:4", without which the text is left; 0 if they are not given, none for what
// is no number of waves.
std::optional<std::int64_t> take_waves(std::string_view& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == 0 || colon == std::string_view::npos) return 0;
  const auto waves = read_number<std::int64_t>(std::string(text.substr(colon + 1)));
  text = text.substr(0, colon);
  return waves && *waves >= 1 && *waves <= kMaxWaves ? waves : std::nullopt;
}

ForwardOptions parse_choice(std::string_view text) {
  std::string_view rest = text;
  std::int64_t values[4] = {};
  const bool has_numbers =
      take_numbers(rest, values) && values[0] >= 1 && (rest.empty() || rest.front() == ':');
  const std::optional<std::int64_t> waves = has_numbers ? take_waves(rest) : std::nullopt;
  check(
      waves.has_value(), ErrorCode::invalid_argument,
      "[flags] choice '{}': <groups>:<panel>:<n_c dispatch>/<n_c combine>[:warps|:blocks[:<waves>]]"
      ", for example 4:512:2/1:blocks; waves from 1 to {}",
      text, kMaxWaves);
  ForwardOptions options{.schedule = Schedule::comet,
                         .groups = values[0],
                         .panel = values[1],
                         .n_c_dispatch = static_cast<int>(values[2]),
                         .n_c_combine = static_cast<int>(values[3]),
                         .waves = *waves};
  if (!rest.empty()) options.placement = parse_placement(std::string(rest.substr(1)));
  return options;
}

std::vector<ForwardOptions> parse_choices(const std::string& text) {
  std::vector<ForwardOptions> choices;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) choices.push_back(parse_choice(part));
  return choices;
}

// On cpu there is one placement, which profiles and rows call warps, and there are no waves.
bool is_for_gpus(const ForwardOptions& choice) {
  return choice.placement == Placement::blocks || choice.waves > 0;
}

// What no text has, but for tabs; a NUL byte would end sentences about the line.
bool is_control(char letter) {
  const auto byte = static_cast<unsigned char>(letter);
  return (byte < 0x20 && letter != '\t') || byte == 0x7f;
}

BenchCaseFlags parse_line(const std::string& line, BenchCaseFlags of) {
  CLI::App app;
  add_bench_case_flags(app, of);
  std::istringstream stream(line);
  std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ExtrasError&) {
    fail(ErrorCode::invalid_argument, "unexpected argument '{}'", app.remaining().front());
  } catch (const CLI::Success&) {  // its sentence is for programmers
    fail(ErrorCode::invalid_argument, "--help is for the command line: comet bench --help");
  }
  check(app.count("--world") == 0, ErrorCode::invalid_argument,
        "--world is the same for all cases: give it beside --cases");
  of.flags.is_dtype_given |= app.count("--dtype") > 0;
  return of;
}

}  // namespace

void add_bench_case_flags(CLI::App& app, BenchCaseFlags& of) {
  add_case_flags(app, of.flags);
  describe_auto_link(app);
  add_backend(app, of.flags.backend);
  app.get_option("--dtype")->default_str("f32, bf16 on cuda");
  add_schedule_flags(app, of.flags);
  add_parsed(app, "--choices", of.choices, parse_choices, "LIST",
             "Time each of these choices of comet and show a row for each, in place of tuning: "
             "<groups>:<panel>:<n_c dispatch>/<n_c combine>[:warps|:blocks[:<waves>]] with commas "
             "between; panel 0 is the default")
      ->group(kSchedulesGroup);
  add_integer(app, {"--rounds", "Timed calls of each schedule, interleaved", 1, 1'000'000},
              of.rounds)
      ->group(kSchedulesGroup);
  add_integer(app,
              {"--warmup", "Untimed calls of each schedule before; cuda: at least 3", 0, 1'000'000},
              of.warmup)
      ->group(kSchedulesGroup);
  for (const char* const chosen :
       {"--groups", "--n-c-dispatch", "--n-c-combine", "--placement", "--waves", "--panel"}) {
    app.get_option("--choices")->excludes(app.get_option(chosen));
  }
  app.add_option("--suite", of.suite, "What rows of --json say that they belong to")
      ->type_name("NAME")
      ->capture_default_str();
}

PlannedBench plan_bench_case(const BenchCaseFlags& of, const Ranks& ranks) {
  const std::vector<Schedule>& schedules = of.flags.schedules;
  check(of.choices.empty() || schedules.empty() ||
            std::find(schedules.begin(), schedules.end(), Schedule::comet) != schedules.end(),
        ErrorCode::invalid_argument, "[flags] --choices: of comet, which --schedules leaves out");
  check(of.flags.backend == Backend::cuda || std::ranges::none_of(of.choices, is_for_gpus),
        ErrorCode::invalid_argument,
        "[flags] --choices: {} has no blocks and no waves; for --backend cuda",
        to_string(of.flags.backend));
  PlannedBench planned = plan_bench(of.flags, ranks);
  planned.bench.suite = of.suite;
  planned.bench.rounds = static_cast<int>(of.rounds);
  planned.bench.warmup = static_cast<int>(of.warmup);
  planned.bench.comet_options = of.choices;
  if (!of.choices.empty()) planned.bench.finalists = of.choices.size();
  return planned;
}

std::vector<CaseLine> read_case_lines(const std::string& path, const BenchCaseFlags& base) {
  std::istringstream lines(read_text_file(path, kMostBytes));
  std::vector<CaseLine> cases;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line.resize(std::min(line.size(), line.find('#')));
    line.resize(line.find_last_not_of(" \t\r") + 1);  // npos + 1 is 0
    if (line.empty()) continue;
    const std::string place = fmt::format("{} line {}", path, number);
    check(std::none_of(line.begin(), line.end(), is_control), ErrorCode::invalid_argument,
          "[cases] {}: {} is no line of flags", place, quote_text(line));
    try {
      cases.push_back({parse_line(line, base), line, place});
    } catch (const CLI::ParseError& error) {
      fail(ErrorCode::invalid_argument, "[cases] {}: {}", place, error.what());
    } catch (const Error& error) {
      fail(error.code(), "[cases] {}: {}", place, error.what());
    }
  }
  check(!cases.empty(), ErrorCode::invalid_argument, "[cases] {}: no case in it", path);
  return cases;
}

}  // namespace comet::cli
