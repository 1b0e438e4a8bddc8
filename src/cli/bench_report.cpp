// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_report.hpp"

#include <fmt/format.h>

#include "base/count_text.hpp"

namespace comet::cli {
namespace {

std::string milliseconds(double us) { return fmt::format("{:.2f} ms", us / 1000); }

std::string scaled(const char* name, std::int64_t value, std::int64_t divisor) {
  if (divisor == 1) return fmt::format("{} {}", name, value);
  return fmt::format("{} {} (1/{})", name, value, divisor);
}

std::string shape_text(const BenchCase& bench, const Divisors& divisors) {
  return fmt::format("{}: {} experts{}, top-{}, {}, {}, {}, {}, routing {}", bench.model,
                     bench.desc.num_experts, bench.desc.gated ? "" : " without gates",
                     bench.desc.topk, scaled("H", bench.desc.hidden, divisors.hidden),
                     scaled("I", bench.desc.intermediate, divisors.intermediate),
                     scaled("tokens", bench.tokens, divisors.tokens), to_string(bench.desc.dtype),
                     bench.routing_text);
}

std::string devices_text(const BenchRow& row) {
  return row.num_devices == 1 ? "one " + row.device
                              : fmt::format("{} x {}", row.num_devices, row.device);
}

std::string world_text(const BenchCase& bench, const BenchRow& row) {
  if (bench.backend == Backend::cuda) {
    const std::int64_t ranks = bench.parallel.world_size();
    return fmt::format("{} on {} ({}{}), ep {}, tp {}, tile {}x{}", count_text(ranks, "rank"),
                       devices_text(row), count_text(row.workers, "multiprocessor"),
                       ranks == 1 ? "" : " each", bench.parallel.ep, bench.parallel.tp, row.block_m,
                       row.block_n);
  }
  const std::string ranks = row.world == "local"
                                ? count_text(bench.parallel.world_size(), "in-process rank")
                                : fmt::format("world {}, {} ranks that are processes", row.world,
                                              bench.parallel.world_size());
  return fmt::format("{} (ep {}, tp {}) x {}, tile {}x{}", ranks, bench.parallel.ep,
                     bench.parallel.tp, count_text(row.workers, "worker"), row.block_m,
                     row.block_n);
}

std::string link_text(const BenchCase& bench, const BenchRow& row) {
  if (row.link.kind == LinkSpec::Kind::host) {
    return "host link: pinned host memory over PCIe, crossed twice";
  }
  if (row.link.kind == LinkSpec::Kind::native) {
    if (row.num_hosts > 1) {
      return fmt::format("native link (memory, and TCP between {} hosts), {:.2f} MB between hosts",
                         row.num_hosts, static_cast<double>(row.host_bytes_sent) * 1e-6);
    }
    if (bench.backend == Backend::cpu) return "native link (memory)";
    return row.num_devices > 1 ? "native link (device memory and what joins the GPUs)"
                               : "native link (device memory)";
  }
  std::string text = fmt::format("EMULATED link of {:.4g} GB/s per rank and direction",
                                 row.link.gigabytes_per_second);
  if (row.link.auto_ratio > 0) {
    text += fmt::format(", set so that communication alone takes {:g}x computation alone",
                        row.link.auto_ratio);
  }
  return text;
}

std::string bounds_text(const BenchRow& row) {
  std::string text = fmt::format("  computation alone {}", milliseconds(row.t_compute_us));
  if (row.t_link_us) text += fmt::format(", communication alone {}", milliseconds(*row.t_link_us));
  if (row.t_stage_bound_us) {
    text += fmt::format(", best without groups {}", milliseconds(*row.t_stage_bound_us));
  }
  return text + fmt::format(", {:.2f} MB over links\n", static_cast<double>(row.bytes_link) * 1e-6);
}

std::string calls_text(const BenchRow& row) {
  const char* const how = row.is_graph ? "calls replayed from CUDA graphs" : "calls launched anew";
  return fmt::format("{}, {}, times by the device's clock", how,
                     row.input_copies > 1
                         ? fmt::format("{} copies of the inputs rotated past L2", row.input_copies)
                         : std::string("inputs larger than L2"));
}

std::string oracle_text(const BenchRow& row) {
  if (row.checked_tokens == 0)
    return "  NOT checked against the oracle; schedules agree bit for bit\n";
  return fmt::format(
      "  checked: {} of {} tokens against the double-precision oracle, all calls bit for bit "
      "equal\n",
      row.checked_tokens, row.total_tokens);
}

std::string how(const BenchRow& row) {
  std::string text = fmt::format("panel {}", row.panel);
  if (row.schedule == Schedule::comet) text += fmt::format(", groups {}", row.groups);
  if (row.schedule == Schedule::pipelined) text += fmt::format(", chunks {}", row.chunks);
  if (row.schedule == Schedule::sequential) return text;
  text += fmt::format(", n_c {}/{}", row.n_c_dispatch, row.n_c_combine);
  if (row.device.empty() || row.schedule != Schedule::comet) return text;
  text += fmt::format(" {}", to_string(row.placement));
  return row.waves == 0 ? text : text + ", " + count_text(row.waves, "wave");
}

std::string schedule_text(const BenchRow& row) {
  return fmt::format("  {:<11} {:>10} {:>9}  {:>6.2f}x {:>7} {:>10.2f}  {:>8}   {}\n",
                     to_string(row.schedule), milliseconds(row.t_layer_us),
                     fmt::format("{:.2f}", row.t_layer_spread_us / 1000), row.speedup_vs_sequential,
                     row.hidden_share ? fmt::format("{:.2f}", *row.hidden_share) : "-",
                     row.efficiency, milliseconds(row.t_plan_us), how(row));
}

}  // namespace

std::vector<std::string> case_lines(const BenchCase& bench, const Divisors& divisors,
                                    const BenchRow& row) {
  std::vector<std::string> lines = {shape_text(bench, divisors), world_text(bench, row),
                                    link_text(bench, row)};
  if (bench.backend == Backend::cuda) lines.push_back(calls_text(row));
  return lines;
}

std::string bench_text(const BenchCase& bench, const Divisors& divisors,
                       const std::vector<BenchRow>& rows) {
  std::string text =
      fmt::format("{}\n", fmt::join(case_lines(bench, divisors, rows.front()), "\n  "));
  text += bounds_text(rows.front()) + oracle_text(rows.front());
  text += fmt::format("  {:<11} {:>10} {:>9} {:>8} {:>7} {:>10}  {:>8}\n", "schedule", "time",
                      "spread", "speedup", "hidden", "efficiency", "plan");
  for (const BenchRow& row : rows) text += schedule_text(row);
  return text;
}

}  // namespace comet::cli
