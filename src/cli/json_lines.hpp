// SPDX-License-Identifier: Apache-2.0
// A file with one JSON object a line, to which lines are added so that readers and crashes never
// see half of one: the whole file is written under a temporary name and renamed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace comet::cli {

class JsonLines {
 public:
  /// Reads what the file holds, if it exists, and makes sure that it can be written. Throws
  /// Error(io).
  explicit JsonLines(std::filesystem::path path);

  /// Adds lines, each without its line break. Throws Error(io); the file is then as before.
  void append(const std::vector<std::string>& lines);

 private:
  void write() const;

  std::filesystem::path path_;
  std::string text_;
};

}  // namespace comet::cli
