// SPDX-License-Identifier: Apache-2.0
#include "measure/row_json.hpp"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/processor.hpp"
#include "measure/build_info.hpp"

namespace comet {
namespace {

using nlohmann::ordered_json;

ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

void add_case(const BenchCase& bench, const BenchRow& row, ordered_json& object) {
  object["suite"] = bench.suite;
  object["model"] = bench.model;
  object["tokens"] = bench.tokens;
  object["hidden"] = bench.desc.hidden;
  object["intermediate"] = bench.desc.intermediate;
  object["gated"] = bench.desc.gated;
  object["experts"] = bench.desc.num_experts;
  object["topk"] = bench.desc.topk;
  object["ep"] = bench.parallel.ep;
  object["tp"] = bench.parallel.tp;
  object["world"] = row.world;
  object["ranks"] = bench.parallel.world_size();
  object["hosts"] = row.num_hosts;
}

void add_figures(const BenchRow& row, ordered_json& object) {
  object["t_layer_us"] = row.t_layer_us;
  object["t_layer_spread_us"] = row.t_layer_spread_us;
  object["t_compute_us"] = row.t_compute_us;
  object["t_link_us"] = or_null(row.t_link_us);
  object["t_plan_us"] = row.t_plan_us;
  object["t_publish_us"] = row.t_publish_us;
  object["t_dispatch_us"] = or_null(row.t_dispatch_us);
  object["t_combine_us"] = or_null(row.t_combine_us);
  object["t_stage_bound_us"] = or_null(row.t_stage_bound_us);
  object["bytes_link"] = row.bytes_link;
  if (row.num_hosts > 1) {
    object["host_bytes_planned"] = row.host_bytes_planned;
    object["host_bytes_sent"] = row.host_bytes_sent;
  }
  object["hidden_share"] = or_null(row.hidden_share);
  object["efficiency"] = row.efficiency;
  object["speedup_vs_sequential"] = row.speedup_vs_sequential;
  object["workspace_bytes"] = row.workspace_bytes;
}

}  // namespace

RowOrigin make_origin(std::string command) {
  return {.command = std::move(command),
          .date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))),
          .device = processor_name()};
}

std::string row_json(const BenchCase& bench, const BenchRow& row, const RowOrigin& origin) {
  ordered_json object;
  add_case(bench, row, object);
  const bool on_gpus = bench.backend == Backend::cuda;
  object["backend"] = to_string(bench.backend);
  object["device"] = on_gpus ? row.device : origin.device;
  object["sms"] = on_gpus ? ordered_json(row.workers) : ordered_json(nullptr);
  object["link"] = to_string(bench.link);
  object["routing"] = bench.routing_text;
  object["schedule"] = to_string(row.schedule);
  object["groups"] = row.groups;
  object["n_c_dispatch"] = row.n_c_dispatch;
  object["n_c_combine"] = row.n_c_combine;
  if (!row.device.empty() && row.schedule == Schedule::comet) {
    object["communication"] = to_string(row.placement);
    object["waves"] = row.waves;
  }
  object["chunks"] = row.chunks;
  object["graph"] = row.is_graph;
  add_figures(row, object);
  object["dtype"] = to_string(bench.desc.dtype);
  object["link_gbs"] = row.link.gigabytes_per_second > 0
                           ? ordered_json(row.link.gigabytes_per_second)
                           : ordered_json(nullptr);
  object["tile"] = fmt::format("{}x{}", row.block_m, row.block_n);
  object["panel"] = row.panel;
  object["placement"] = on_gpus ? fmt::format("{} multiprocessors per rank", row.workers)
                                : fmt::format("{} workers per rank", row.workers);
  object["command"] = origin.command;
  object["commit"] = build_commit();
  object["evidence"] = build_evidence();
  object["date"] = origin.date;
  return object.dump();
}

}  // namespace comet
