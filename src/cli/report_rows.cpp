// SPDX-License-Identifier: Apache-2.0
// Reads what a report shows.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "base/check.hpp"
#include "cli/report_page.hpp"
#include "io/json.hpp"
#include "io/text_file.hpp"

namespace comet::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kMostRowBytes = std::size_t{1} << 28;
constexpr std::size_t kMostPictureBytes = std::size_t{1} << 24;

// Of benchmark rows that belong to no experiment.
const std::vector<ReportColumn>& bench_columns() {
  static const std::vector<ReportColumn> columns = {{"kind", "kind"},
                                                    {"model", "model"},
                                                    {"tokens", "tokens"},
                                                    {"ep", "EP"},
                                                    {"tp", "TP"},
                                                    {"dtype", "dtype"},
                                                    {"link", "link"},
                                                    {"routing", "routing"},
                                                    {"graph", "graphs"},
                                                    {"schedule", "schedule"},
                                                    {"groups", "G"},
                                                    {"panel", "panel"},
                                                    {"waves", "waves"},
                                                    {"n_c_dispatch", "n_c, dispatch"},
                                                    {"n_c_combine", "n_c, combine"},
                                                    {"t_layer_us", "us", 1},
                                                    {"speedup_vs_sequential", "over sequential", 2},
                                                    {"hidden_share", "hidden", 2},
                                                    {"efficiency", "efficiency", 2}};
  return columns;
}

std::string text_of(const json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

ReportPart& part_named(Report& report, const std::string& name) {
  const auto found = std::find_if(report.parts.begin(), report.parts.end(),
                                  [&](const ReportPart& part) { return part.name == name; });
  if (found != report.parts.end()) return *found;
  ReportPart& part = report.parts.emplace_back();
  part.name = part.title = name;
  part.columns = bench_columns();
  return part;
}

ReportColumn column_of(const json& column) {
  check(column.is_object() && column.contains("key") && column.contains("title"), ErrorCode::format,
        "a column has no key or no title");
  ReportColumn one{.key = column["key"].get<std::string>(),
                   .title = column["title"].get<std::string>()};
  if (column.contains("digits")) one.digits = column["digits"].get<int>();
  check(one.digits >= -1 && one.digits <= 9, ErrorCode::format, "digits {}, from -1 to 9",
        one.digits);
  return one;
}

void take_header(ReportPart& part, const json& row) {
  const std::string title = text_of(row, "title");
  if (!title.empty()) part.title = title;
  part.figure = text_of(row, "figure");
  part.about = text_of(row, "about");
  part.said.clear();
  for (const json& sentence : row.value("said", json::array())) part.said.push_back(sentence);
  part.columns.clear();
  for (const json& column : row.at("columns")) part.columns.push_back(column_of(column));
}

void take_row(Report& report, json row) {
  check(row.is_object(), ErrorCode::format, "no JSON object");
  const std::string experiment = text_of(row, "experiment");
  if (!experiment.empty()) {
    ReportPart& part = part_named(report, experiment);
    if (text_of(row, "kind") == "experiment") return take_header(part, row);
    part.rows.push_back(std::move(row));
  } else if (row.contains("schedule") && row.contains("t_layer_us")) {
    part_named(report, "suite " + text_of(row, "suite")).rows.push_back(std::move(row));
  } else {
    ++report.num_left_out;
  }
}

// A name is part of a path, so that it may only have what names of experiments have.
bool is_plain(const std::string& name) {
  return std::all_of(name.begin(), name.end(), [](unsigned char letter) {
    return std::isalnum(letter) != 0 || letter == '_' || letter == '-';
  });
}

void find_pictures(Report& report, const std::filesystem::path& folder) {
  for (ReportPart& part : report.parts) {
    const std::filesystem::path path = folder / (part.name + ".svg");
    if (!part.picture.empty() || !is_plain(part.name)) continue;
    if (std::filesystem::is_regular_file(path)) {
      part.picture = read_text_file(path, kMostPictureBytes);
    }
  }
}

void read_rows_into(Report& report, const std::string& file) {
  std::istringstream lines(read_text_file(file, kMostRowBytes));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string source = fmt::format("{} line {}", file, number);
    json row = parse_json(line, "report", source);
    try {
      take_row(report, std::move(row));
    } catch (const json::exception& error) {
      fail(ErrorCode::format, "[report] {}: {}", source, quote_text(error.what()));
    } catch (const Error& error) {
      fail(ErrorCode::format, "[report] {}: {}", source, error.what());
    }
  }
}

}  // namespace

Report read_report(const std::vector<std::string>& files) {
  Report report;
  for (const std::string& file : files) {
    read_rows_into(report, file);
    find_pictures(report, std::filesystem::path(file).parent_path());
  }
  std::erase_if(report.parts, [](const ReportPart& part) { return part.rows.empty(); });
  check(!report.parts.empty(), ErrorCode::invalid_argument,
        "[report] {}: no row of an experiment or of comet bench in it", fmt::join(files, ", "));
  return report;
}

}  // namespace comet::cli
