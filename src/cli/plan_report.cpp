// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_report.hpp"

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/count_text.hpp"

namespace comet::cli {
namespace {

std::string headline(const PlanReport& report) {
  const MoeDesc& desc = report.query.desc;
  return fmt::format(
      "layer: {}{} experts, top {}, hidden {}, intermediate {}, {}\n"
      "ranks: ep {} x tp {}; tokens: {} in all, routing {}, seed {}\n\n",
      report.model.empty() ? "" : report.model + ", ", desc.num_experts, desc.topk, desc.hidden,
      desc.intermediate, to_string(desc.dtype), report.query.parallel.ep, report.query.parallel.tp,
      report.tokens, report.routing, report.seed);
}

// Tiles in the order in which they are computed, in lines of at most 16.
std::string tile_lines(const std::vector<std::int64_t>& tile_rows) {
  constexpr std::size_t kPerLine = 16;
  std::string text;
  for (std::size_t i = 0; i < tile_rows.size(); ++i) {
    if (i % kPerLine == 0) text += fmt::format("{}  {:>6}:", i == 0 ? "" : "\n", i);
    text += fmt::format(" {:>4}", tile_rows[i]);
  }
  return text.empty() ? "  none\n" : text + "\n";
}

std::string rank_text(const PlanSummary& summary, std::int64_t index) {
  const RankPlan& rank = summary.ranks[index];
  std::string text = fmt::format("rank {} of {}: {}, {} in {} of {}\n", index, summary.world,
                                 count_text(rank.tokens, "token"), count_text(rank.rows, "row"),
                                 count_text(rank.tiles, "tile"), summary.block_m);
  text += "\nexpert    rows\n";
  for (std::size_t i = 0; i < rank.expert_ids.size(); ++i) {
    text += fmt::format("{:>6}  {:>6}\n", rank.expert_ids[i], rank.rows_per_expert[i]);
  }
  text += "\ngroup  step  waits for   tiles    rows\n";
  for (const ReadinessStep& step : rank.steps) {
    const std::string source = step.step == 0 ? "itself" : fmt::format("rank {}", step.source);
    text += fmt::format("{:>5}  {:>4}  {:<9}  {:>6}  {:>6}\n", step.group, step.step, source,
                        step.tiles, step.rows);
  }
  text += "\nrows that each tile waits for, in the order of computation\n";
  text += tile_lines(rank.tile_rows);
  text += "\n  rank  dispatch bytes from it  dispatch bytes to it\n";
  for (std::int64_t other = 0; other < summary.world; ++other) {
    if (other == index) continue;
    text += fmt::format("{:>6}  {:>22}  {:>20}\n", other,
                        summary.dispatch_bytes[other * summary.world + index],
                        summary.dispatch_bytes[index * summary.world + other]);
  }
  return text;
}

nlohmann::ordered_json query_json(const PlanReport& report) {
  const MoeDesc& desc = report.query.desc;
  nlohmann::ordered_json json;
  json["model"] =
      report.model.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(report.model);
  json["experts"] = desc.num_experts;
  json["topk"] = desc.topk;
  json["hidden"] = desc.hidden;
  json["intermediate"] = desc.intermediate;
  json["dtype"] = to_string(desc.dtype);
  json["ep"] = report.query.parallel.ep;
  json["tp"] = report.query.parallel.tp;
  json["tokens"] = report.tokens;
  json["routing"] = report.routing;
  json["seed"] = report.seed;
  return json;
}

}  // namespace

void check_plan_rank(std::int64_t rank, std::int64_t ranks) {
  check(rank >= -1 && rank < ranks, ErrorCode::out_of_range, "[plan] --rank {}, allowed 0 to {}",
        rank, ranks - 1);
}

std::string plan_text(const PlanReport& report) {
  return headline(report) +
         (report.rank < 0 ? report.summary.to_text() : rank_text(report.summary, report.rank)) +
         (report.prediction ? predict_text(*report.prediction) : "");
}

std::string plan_json(const PlanReport& report) {
  nlohmann::ordered_json json;
  json["query"] = query_json(report);
  json.update(nlohmann::ordered_json::parse(report.summary.to_json()));
  if (report.rank >= 0) {
    json["rank"] = report.rank;
    json["ranks"] = nlohmann::ordered_json::array({json["ranks"][report.rank]});
  }
  if (report.prediction) json["prediction"] = predict_json(*report.prediction);
  return json.dump() + "\n";
}

}  // namespace comet::cli
