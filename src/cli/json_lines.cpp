// SPDX-License-Identifier: Apache-2.0
#include "cli/json_lines.hpp"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/check.hpp"
#include "io/folder_lock.hpp"
#include "io/follow_links.hpp"
#include "io/new_file.hpp"
#include "io/text_file.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;

// For the parser a NUL byte ends the text.
bool is_object(std::string_view line) {
  return line.find('\0') == std::string_view::npos &&
         nlohmann::json::parse(line.begin(), line.end(), nullptr, false).is_object();
}

// What the file holds, each line with its line break; nothing if there is no file. Its first line
// tells rows from a profile, a text or a picture.
std::string read_lines(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  std::string text = read_text_file(path, kMostBytes);
  check(text.empty() || is_object(std::string_view(text).substr(0, text.find('\n'))),
        ErrorCode::format,
        "[json] '{}' holds no rows: its first line is no JSON object; name another file",
        path.string());
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

}  // namespace

JsonLines::JsonLines(std::filesystem::path path) : path_(std::move(path)) {
  const FolderLock lock(follow_links(path_));  // what the probe writes has the name of a row's file
  read_lines(path_);
  const NewFile probe(path_, "json");
}

void JsonLines::append(const std::vector<std::string>& lines) const {
  const FolderLock lock(follow_links(path_));
  std::string text = read_lines(path_);
  for (const std::string& line : lines) text += line + "\n";
  NewFile file(path_, "json");
  file.append(text);
  file.commit();
}

}  // namespace comet::cli
