// SPDX-License-Identifier: Apache-2.0
// PlanSummary as text for people and JSON for machines.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/count_text.hpp"
#include "comet/plan.hpp"

namespace comet {
namespace {

std::string join(const std::vector<std::int64_t>& values) {
  return fmt::format("{}", fmt::join(values, " "));
}

nlohmann::ordered_json rank_json(const RankPlan& rank) {
  nlohmann::ordered_json json;
  json["tokens"] = rank.tokens;
  json["expert_ids"] = rank.expert_ids;
  json["rows_per_expert"] = rank.rows_per_expert;
  json["rows"] = rank.rows;
  json["tiles"] = rank.tiles;
  json["padded_rows"] = rank.padded_rows;
  json["tile_rows"] = rank.tile_rows;
  json["steps"] = nlohmann::ordered_json::array();
  for (const ReadinessStep& step : rank.steps) {
    json["steps"].push_back({{"group", step.group},
                             {"step", step.step},
                             {"source", step.source},
                             {"tiles", step.tiles},
                             {"rows", step.rows}});
  }
  return json;
}

}  // namespace

std::string PlanSummary::to_json() const {
  nlohmann::ordered_json json;
  json["world"] = world;
  json["groups"] = groups;
  json["block_m"] = block_m;
  json["ranks"] = nlohmann::ordered_json::array();
  for (const RankPlan& rank : ranks) json["ranks"].push_back(rank_json(rank));
  json["dispatch_bytes"] = nlohmann::ordered_json::array();
  for (std::int64_t from = 0; from < world; ++from) {
    json["dispatch_bytes"].push_back(std::vector<std::int64_t>(
        dispatch_bytes.begin() + from * world, dispatch_bytes.begin() + (from + 1) * world));
  }
  json["busiest_bytes"] = busiest_bytes;
  json["row_bytes_without_dedup"] = row_bytes_without_dedup;
  return json.dump();
}

std::string PlanSummary::to_text() const {
  std::string text = fmt::format("{}, {}, tiles of {}\n", count_text(world, "rank"),
                                 count_text(groups, "group"), count_text(block_m, "row"));
  for (std::int64_t r = 0; r < world; ++r) {
    const RankPlan& rank = ranks[r];
    text += fmt::format("\nrank {}: {}, {} in {} ({} with tails)\n", r,
                        count_text(rank.tokens, "token"), count_text(rank.rows, "row"),
                        count_text(rank.tiles, "tile"), rank.padded_rows);
    text += fmt::format("  experts          {}\n", join(rank.expert_ids));
    text += fmt::format("  rows per expert  {}\n", join(rank.rows_per_expert));
    text += "  group  step  waits for   tiles    rows\n";
    for (const ReadinessStep& step : rank.steps) {
      const std::string source = step.step == 0 ? "itself" : fmt::format("rank {}", step.source);
      text += fmt::format("  {:>5}  {:>4}  {:<9}  {:>6}  {:>6}\n", step.group, step.step, source,
                          step.tiles, step.rows);
    }
  }
  text += "\ndispatch bytes, from row to column (combine moves the same the other way)\n      ";
  for (std::int64_t to = 0; to < world; ++to) text += fmt::format(" {:>12}", to);
  text += '\n';
  std::int64_t total = 0;
  for (std::int64_t from = 0; from < world; ++from) {
    text += fmt::format("  {:>4}", from);
    for (std::int64_t to = 0; to < world; ++to) {
      text += fmt::format(" {:>12}", dispatch_bytes[from * world + to]);
      total += dispatch_bytes[from * world + to];
    }
    text += '\n';
  }
  text += fmt::format(
      "in all {} bytes, {} without deduplication; busiest direction of a rank {} bytes\n", total,
      row_bytes_without_dedup, busiest_bytes);
  return text;
}

}  // namespace comet
