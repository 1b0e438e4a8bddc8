// SPDX-License-Identifier: Apache-2.0
#include "cli/help_format.hpp"

#include <sstream>

namespace comet::cli {
namespace {

constexpr std::size_t kNameWidth = 30;
constexpr std::size_t kLineWidth = 100;

}  // namespace

HelpFormatter::HelpFormatter() { column_width(kNameWidth); }

std::string HelpFormatter::make_help(const CLI::App* app, std::string name,
                                     CLI::AppFormatMode mode) const {
  const std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
  std::string result;
  for (const char c : text) {
    if (c == '\n' && (result.empty() || result.ends_with("\n\n"))) continue;
    result += c;
  }
  while (result.ends_with("\n\n")) result.pop_back();
  return result;
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  std::string text;
  if (option->get_type_size() != 0) text = " " + option->get_type_name();
  const std::string value = option->get_default_str();
  if (!value.empty()) text += "=" + value;
  if (option->get_required()) text += " (required)";
  return text;
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  std::string text;
  std::size_t line = 0;
  std::istringstream words(option->get_description());
  for (std::string word; words >> word;) {
    if (line > 0 && line + 1 + word.size() > kLineWidth - kNameWidth) {
      text += '\n';
      line = 0;
    } else if (line > 0) {
      text += ' ';
      ++line;
    }
    text += word;
    line += word.size();
  }
  return text;
}

}  // namespace comet::cli
