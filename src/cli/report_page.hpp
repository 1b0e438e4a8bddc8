// SPDX-License-Identifier: Apache-2.0
// Rows of experiments and benchmarks as one HTML page that needs no other file.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace comet::cli {

/// A column of an experiment's table.
struct ReportColumn {
  std::string key;    ///< Of a row.
  std::string title;  ///< Of the column.
  int digits = -1;    ///< Behind the point; -1: the value as it is written.
};

/// What belongs together: an experiment, or the benchmark rows of a suite.
struct ReportPart {
  std::string name;
  std::string title;
  std::string figure;             ///< The paper's that it stands beside; may be empty.
  std::string about;              ///< What was measured; may be empty.
  std::vector<std::string> said;  ///< What the paper says of it, a sentence each.
  std::vector<ReportColumn> columns;
  std::string picture;  ///< An SVG document; may be empty.
  std::vector<nlohmann::json> rows;
};

struct Report {
  std::vector<ReportPart> parts;  ///< In the order of their first rows.
  std::size_t num_left_out = 0;   ///< Rows of tests and others that have no time of a layer.
};

/// Reads rows, one JSON object a line, and the pictures <experiment>.svg beside each file. Throws
/// Error(io); Error(format) that names file and line; Error(invalid_argument) if there is nothing
/// to show.
Report read_report(const std::vector<std::string>& files);

/// The page. All text is escaped; pictures are images, whose scripts browsers do not run.
std::string report_html(const Report& report);

}  // namespace comet::cli
