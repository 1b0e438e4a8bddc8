// SPDX-License-Identifier: Apache-2.0
#include "cli/report_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>

#include "base/count_text.hpp"
#include "comet/version.hpp"
#include "trace/escape.hpp"

namespace comet::cli {
namespace {

using nlohmann::json;

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Comet: experiments</title><style>
body { font: 15px/1.5 sans-serif; color: #24292f; max-width: 1250px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; } img { max-width: 100%; }
td, th { border: 1px solid #d0d7de; padding: 2px 8px; text-align: right; } th { background: #f6f8fa; }
.table { overflow-x: auto; } .paper { color: #57606a; } pre { font-size: 12px; white-space: pre-wrap; }
</style></head><body>
)";

std::string base64(std::string_view bytes) {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t at) -> std::uint32_t {
      return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0;
    };
    const std::uint32_t three = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    text += kLetters[three >> 18];
    text += kLetters[three >> 12 & 63];
    text += i + 1 < bytes.size() ? kLetters[three >> 6 & 63] : '=';
    text += i + 2 < bytes.size() ? kLetters[three & 63] : '=';
  }
  return text;
}

bool has_value(const json& row, const std::string& key) {
  return row.contains(key) && !row[key].is_null();
}

std::string cell_text(const json& row, const ReportColumn& column) {
  if (!has_value(row, column.key)) return "-";
  const json& value = row[column.key];
  if (value.is_number() && column.digits >= 0) {
    return fmt::format("{:.{}f}", value.get<double>(), column.digits);
  }
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (!value.is_string()) return value.dump();
  const auto text = value.get<std::string>();
  return column.key == "link" && text.starts_with("paced") ? text + " EMULATED" : text;
}

// What stands in a column of each row; a column that is the same everywhere is told once instead.
struct TableParts {
  std::vector<ReportColumn> columns;
  std::string alike;
};

TableParts table_parts(const ReportPart& part) {
  TableParts parts;
  for (const ReportColumn& column : part.columns) {
    std::set<std::string> texts;
    bool is_anywhere = false;
    for (const json& row : part.rows) {
      texts.insert(cell_text(row, column));
      is_anywhere |= has_value(row, column.key);
    }
    if (!is_anywhere) continue;
    const bool is_measured = column.digits >= 0;
    if (texts.size() > 1 || is_measured || part.rows.size() == 1) {
      parts.columns.push_back(column);
    } else {
      parts.alike +=
          fmt::format("{}{} {}", parts.alike.empty() ? "" : ", ", column.title, *texts.begin());
    }
  }
  return parts;
}

std::string table_html(const ReportPart& part) {
  const auto [columns, alike] = table_parts(part);
  std::string html;
  if (!alike.empty()) html += fmt::format("<p>In all rows: {}.</p>\n", xml_escape(alike));
  html += "<div class=\"table\"><table><tr>";
  for (const ReportColumn& column : columns) {
    html += fmt::format("<th>{}</th>", xml_escape(column.title));
  }
  html += "</tr>\n";
  for (const json& row : part.rows) {
    html += "<tr>";
    for (const ReportColumn& column : columns) {
      html += fmt::format("<td>{}</td>", xml_escape(cell_text(row, column)));
    }
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

// The distinct texts of a key over the rows.
std::set<std::string> texts_of(const ReportPart& part, const char* key) {
  std::set<std::string> texts;
  for (const json& row : part.rows) {
    const auto found = row.find(key);
    if (found != row.end() && found->is_string()) texts.insert(found->get<std::string>());
  }
  return texts;
}

std::string origin_html(const ReportPart& part) {
  std::string text = count_text(part.rows.size(), "row");
  const std::set<std::string> devices = texts_of(part, "device");
  const std::set<std::string> commits = texts_of(part, "commit");
  const std::set<std::string> dates = texts_of(part, "date");
  const std::set<std::string> links = texts_of(part, "link");
  if (!devices.empty()) text += fmt::format("; {}", fmt::join(devices, ", "));
  if (!commits.empty()) text += fmt::format("; commit {}", fmt::join(commits, ", "));
  if (!dates.empty()) text += fmt::format("; {} to {}", *dates.begin(), *dates.rbegin());
  if (std::any_of(links.begin(), links.end(),
                  [](const std::string& link) { return link.starts_with("paced"); })) {
    text += "; links named paced are EMULATED";
  }
  std::string html = fmt::format("<p>{}.</p>\n", xml_escape(text));
  const std::set<std::string> commands = texts_of(part, "command");
  if (commands.empty()) return html;
  html += "<details><summary>commands</summary><pre>";
  for (const std::string& command : commands) html += xml_escape(command) + "\n";
  return html + "</pre></details>\n";
}

std::string part_html(const ReportPart& part) {
  std::string html =
      fmt::format("<h2 id=\"{0}\">{1}</h2>\n", xml_escape(part.name), xml_escape(part.title));
  if (!part.figure.empty()) {
    html += fmt::format("<p>Beside {} of the COMET paper.</p>\n", xml_escape(part.figure));
  }
  if (!part.about.empty()) html += fmt::format("<p>{}</p>\n", xml_escape(part.about));
  for (const std::string& sentence : part.said) {
    html += fmt::format("<p class=\"paper\">{}</p>\n", xml_escape(sentence));
  }
  if (!part.picture.empty()) {
    html += fmt::format("<p><img alt=\"{}\" src=\"data:image/svg+xml;base64,{}\"></p>\n",
                        xml_escape(part.title), base64(part.picture));
  }
  return html + table_html(part) + origin_html(part);
}

}  // namespace

std::string report_html(const Report& report) {
  std::string html(kHead);
  html += "<h1>Comet: experiments</h1>\n<ul>\n";
  for (const ReportPart& part : report.parts) {
    html += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", xml_escape(part.name),
                        xml_escape(part.title));
  }
  html += "</ul>\n";
  for (const ReportPart& part : report.parts) html += part_html(part);
  if (report.num_left_out > 0) {
    html += fmt::format("<p>Left out: {} of another kind, which time no layer.</p>\n",
                        report.num_left_out);
  }
  return html + fmt::format("<p>comet report {}</p>\n</body></html>\n", COMET_VERSION_STRING);
}

}  // namespace comet::cli
