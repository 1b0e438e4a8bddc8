// SPDX-License-Identifier: Apache-2.0
// Rates of the links between the GPUs of a machine by communication blocks and warps, and how long
// a signal takes: what a choice of communication blocks can count on. And how far the GPUs' timers
// are apart, by which traces and emulated links across GPUs are judged.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/trace_span.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/json_lines.hpp"
#include "cli/output.hpp"
#include "measures.hpp"

namespace comet::node {
namespace {

constexpr const char* kDescription =
    "Measures on the GPUs of one machine how many GB/s (1e9 bytes a second) a GPU pulls from and\n"
    "pushes to its right neighbour, by number of blocks and of warps per block, with all GPUs at\n"
    "once and with one alone, how long a signal between two GPUs takes, and how far the GPUs'\n"
    "timers are apart.";

struct Flags {
  std::string json;
  std::int64_t gpus = 0;
  bool quick = false;
  bool pairs = false;
};

class Program {
 public:
  explicit Program(const Flags& flags)
      : flags_(flags),
        json_(flags.json.empty() ? std::nullopt
                                 : std::optional<cli::JsonLines>(std::in_place, flags.json)),
        gpus_(static_cast<int>(flags.gpus)),
        origins_(find_timer_origins(gpus_)),
        begin_ns_(trace_now_ns()) {}

  void run() {
    print_line("{} x {}, {} multiprocessors each", gpus_.size(), gpus_.name(),
               gpus_.multiprocessors());
    if (gpus_.size() == 1) {
      print_line("One GPU: the peer is the same GPU's other buffer, so no link is measured");
    }
    for (const bool ring : {true, false}) {
      if (ring && flags_.pairs) continue;
      for (const Direction direction : {Direction::pull, Direction::push}) {
        measure_table(direction, ring);
      }
    }
    measure_latency();
    compare_timers();
  }

 private:
  template <typename... Args>
  static void print_line(fmt::format_string<Args...> format, Args&&... args) {
    cli::print(fmt::format(format, std::forward<Args>(args)...) + "\n");
    cli::finish_output();
  }

  static const char* name_of(Direction direction) {
    return direction == Direction::pull ? "pull" : "push";
  }

  std::vector<int> blocks() const {
    std::vector<int> counts;
    for (const int count :
         flags_.quick ? std::vector{1, 4, 16} : std::vector{1, 2, 4, 8, 16, 32, 64}) {
      if (count < gpus_.multiprocessors()) counts.push_back(count);
    }
    counts.push_back(gpus_.multiprocessors());
    return counts;
  }
  std::vector<int> warps() const {
    return flags_.quick ? std::vector{1, 3} : std::vector{1, 2, 3, 8};
  }

  nlohmann::ordered_json row_of(const char* kind) const {
    return {{"suite", "node"},
            {"kind", kind},
            {"peer", gpus_.size() == 1 ? "same GPU" : "other GPU"},
            {"gpus", gpus_.size()},
            {"device", gpus_.name()}};
  }

  // A table's rows come together: the file is written anew each time.
  void append(const std::vector<std::string>& lines) {
    if (json_.has_value()) json_->append(lines);
  }

  void measure_table(Direction direction, bool ring) {
    print_line("\n{}, {}, GB/s of {}", name_of(direction),
               ring ? "all GPUs at once" : "GPU 0 alone", ring ? "each GPU" : "GPU 0");
    std::string head = "  blocks";
    for (const int count : warps()) {
      head += fmt::format("{:>10}", fmt::format("{} warp{}", count, count == 1 ? "" : "s"));
    }
    print_line("{}", head);
    std::vector<std::string> lines;
    for (const int num_blocks : blocks()) {
      std::string line = fmt::format("{:>8}", num_blocks);
      for (const int num_warps : warps()) {
        const LinkRate rate = measure_link(
            gpus_,
            {.direction = direction, .ring = ring, .blocks = num_blocks, .warps = num_warps});
        line += fmt::format("{:>10.1f}", rate.gbs);
        nlohmann::ordered_json row = row_of("link");
        row["direction"] = name_of(direction);
        row["blocks"] = num_blocks;
        row["warps"] = num_warps;
        row["ring"] = ring;
        row["gbs"] = rate.gbs;
        row["gbs_spread"] = rate.gbs_spread;
        row["bytes"] = rate.bytes;
        lines.push_back(row.dump());
      }
      print_line("{}", line);
    }
    append(lines);
  }

  void measure_latency() {
    const SignalLatency latency = measure_signal(gpus_);
    print_line("\nsignal, {}: {:.0f} ns (half a round trip; spread {:.0f} ns)",
               gpus_.size() == 1 ? "two blocks of the same GPU" : "GPU 0 and GPU 1", latency.ns,
               latency.spread_ns);
    nlohmann::ordered_json row = row_of("signal");
    row["latency_ns"] = latency.ns;
    row["latency_spread_ns"] = latency.spread_ns;
    append({row.dump()});
  }

  // Each GPU's timer beside the first one's, as the program began, and how that changed since.
  void compare_timers() {
    const std::vector<std::int64_t> now = find_timer_origins(gpus_);
    const double seconds = static_cast<double>(trace_now_ns() - begin_ns_) * 1e-9;
    for (std::size_t g = 1; g < now.size(); ++g) {
      const std::int64_t ahead_ns = origins_[0] - origins_[g];
      const double drift = static_cast<double>(now[0] - now[g] - ahead_ns) / seconds;
      print_line("timer of GPU {}: {} ns ahead of GPU 0's, and {:.0f} ns more each second", g,
                 ahead_ns, drift);
      nlohmann::ordered_json row = row_of("timer");
      row["gpu_index"] = g;
      row["ahead_ns"] = ahead_ns;
      row["drift_ns_per_s"] = drift;
      append({row.dump()});
    }
  }

  Flags flags_;
  std::optional<cli::JsonLines>
      json_;  // before the GPUs: a file that cannot be written shows first
  Gpus gpus_;
  std::vector<std::int64_t> origins_;  // [gpu], see find_timer_origins
  std::int64_t begin_ns_;
};

int parse_and_run(int argc, char** argv) {
  CLI::App app(kDescription, "link_rates");
  Flags flags;
  app.add_option("--json", flags.json, "Add a JSON object per measurement to FILE, one a line")
      ->type_name("FILE");
  cli::add_integer(app, {"--gpus", "Use the first N GPUs; default: all", 1, 64}, flags.gpus, false);
  app.add_flag("--quick", flags.quick, "Blocks 1, 4, 16 and all, warps 1 and 3 only");
  app.add_flag("--pairs", flags.pairs,
               "Only GPU 0 alone, the others idle; default: also all at once");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    cli::print(app.help());
    cli::finish_output();
    return cli::kExitOk;
  } catch (const CLI::ParseError& error) {
    fail(ErrorCode::invalid_argument, "[flags] {}: see link_rates --help", error.what());
  }
  Program(flags).run();
  return cli::kExitOk;
}

int run_program(int argc, char** argv) noexcept {
  try {
    return parse_and_run(argc, argv);
  } catch (const Error& error) {
    fmt::print(stderr, "link_rates: {}\n", error.what());
    return cli::exit_code_of(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "link_rates: [internal] {}\n", error.what());
    return cli::kExitInternal;
  }
}

}  // namespace
}  // namespace comet::node

int main(int argc, char** argv) { return comet::node::run_program(argc, argv); }
