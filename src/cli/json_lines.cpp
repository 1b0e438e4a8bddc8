// SPDX-License-Identifier: Apache-2.0
#include "cli/json_lines.hpp"

#include <utility>

#include "io/new_file.hpp"
#include "io/text_file.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;

}  // namespace

JsonLines::JsonLines(std::filesystem::path path) : path_(std::move(path)) {
  if (std::filesystem::exists(path_)) text_ = read_text_file(path_, kMostBytes);
  if (!text_.empty() && text_.back() != '\n') text_ += '\n';
  write();
}

void JsonLines::append(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) text_ += line + "\n";
  write();
}

void JsonLines::write() const {
  NewFile file(path_, "json");
  file.append(text_);
  file.commit();
}

}  // namespace comet::cli
