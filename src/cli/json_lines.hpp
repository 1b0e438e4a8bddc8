// SPDX-License-Identifier: Apache-2.0
// A file with one JSON object a line, to which lines are added so that readers and crashes never
// see half of one: the whole file is written under a temporary name and renamed. Several processes
// may add to it at the same time.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace comet::cli {

class JsonLines {
 public:
  /// Makes sure that the file can be written, and makes none. Throws Error(io), and Error(format)
  /// if there is something else in it than lines of JSON objects.
  explicit JsonLines(std::filesystem::path path);

  /// Adds lines, each without its line break, to what the file holds by now. Throws as the
  /// constructor; the file is then as before.
  void append(const std::vector<std::string>& lines) const;

 private:
  std::filesystem::path path_;
};

}  // namespace comet::cli
