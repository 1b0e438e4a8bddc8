// SPDX-License-Identifier: Apache-2.0
#include "tune/bench_rows.hpp"

#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/check.hpp"
#include "io/json.hpp"
#include "io/text_file.hpp"

namespace comet {
namespace {

constexpr std::size_t kMostRowBytes = std::size_t{1} << 28;

bool is_layer_row(const nlohmann::json& row) {
  return row.is_object() && row.contains("t_layer_us") && row.contains("schedule") &&
         row.contains("backend") && row.value("routing", "") == "uniform";
}

std::string text_or_empty(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : std::string();
}

double number_or_zero(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : 0;
}

// Of "16 workers per rank" on cpu.
int leading_number(const std::string& text) {
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

TuneCase case_of_row(const nlohmann::json& row) {
  TuneCase of;
  of.model = row.at("model").get<std::string>();
  of.desc.hidden = row.at("hidden").get<std::int64_t>();
  of.desc.intermediate = row.at("intermediate").get<std::int64_t>();
  of.desc.num_experts = row.at("experts").get<std::int64_t>();
  of.desc.topk = row.at("topk").get<std::int64_t>();
  of.desc.dtype = parse_dtype(row.at("dtype").get<std::string>());
  of.desc.gated = row.value("gated", true);  // rows are older than the key
  of.parallel = {.ep = row.at("ep").get<std::int64_t>(), .tp = row.at("tp").get<std::int64_t>()};
  of.tokens = row.at("tokens").get<std::int64_t>();
  of.backend = parse_backend(row.at("backend").get<std::string>());
  of.link = parse_link(row.at("link").get<std::string>());
  of.link.gigabytes_per_second = number_or_zero(row, "link_gbs");
  of.workers = of.backend == Backend::cuda ? row.at("sms").get<int>()
                                           : leading_number(row.at("placement").get<std::string>());
  const auto gpus = static_cast<int>(number_or_zero(row, "gpus"));
  of.ranks_per_device = static_cast<int>(of.parallel.world_size()) / std::max(1, gpus);
  validate(of.desc, of.parallel);
  return of;
}

// What ran: rows have a panel and workers as they were asked for, which may be more than there are.
TuneConfig config_of_row(const nlohmann::json& row, const TuneCase& of) {
  TuneConfig config;
  const auto tile = row.at("tile").get<std::string>();  // "128x256"
  config.block_m = leading_number(tile);
  config.block_n = leading_number(tile.substr(std::min(tile.size(), tile.find('x') + 1)));
  config.groups = row.at("groups").get<std::int64_t>();
  if (row.at("schedule") == "pipelined") config.groups = row.at("chunks").get<std::int64_t>();
  config.panel = std::min(row.at("panel").get<std::int64_t>(), widest_panel(of.desc));
  config.n_c_dispatch = std::min(row.at("n_c_dispatch").get<int>(), of.workers);
  config.n_c_combine = std::min(row.at("n_c_combine").get<int>(), of.workers);
  const std::string placement = text_or_empty(row, "communication");
  if (!placement.empty()) config.placement = parse_placement(placement);
  config.waves = row.value("waves", std::int64_t{0});  // rows are older than the key
  return config;
}

BenchRecord read_row(const nlohmann::json& row) {
  BenchRecord record;
  MeasuredCase& measured = record.measured;
  measured.of = case_of_row(row);
  measured.schedule = parse_schedule(row.at("schedule").get<std::string>());
  measured.config = config_of_row(row, measured.of);
  measured.t_layer_us = row.at("t_layer_us").get<double>();
  if (measured.schedule == Schedule::sequential) {
    measured.t_compute_us = row.at("t_compute_us").get<double>();
  }
  record.device = text_or_empty(row, "device");
  record.kind = text_or_empty(row, "kind");
  record.commit = text_or_empty(row, "commit");
  record.date = text_or_empty(row, "date");
  return record;
}

}  // namespace

std::vector<BenchRecord> read_bench_rows(const std::filesystem::path& path) {
  std::istringstream lines(read_text_file(path, kMostRowBytes));
  std::vector<BenchRecord> records;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string source = fmt::format("{} line {}", path.string(), number);
    const nlohmann::json row = parse_json(line, "rows", source);
    if (!is_layer_row(row)) continue;
    try {
      records.push_back(read_row(row));
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorCode::format, "[rows] {}: {}", source, quote_text(error.what()));
    } catch (const Error& error) {
      fail(ErrorCode::format, "[rows] {}: {}", source, error.what());
    }
  }
  return records;
}

}  // namespace comet
