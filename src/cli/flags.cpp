// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.hpp"

#include <limits>

#include "base/check.hpp"
#include "base/read_number.hpp"

namespace comet::cli {
namespace {

// The whole of `text` as a decimal number in [low, high].
template <typename T>
T number_in(const std::string& flag, const std::string& text, T low, T high) {
  const auto value = read_number<T>(text);
  if (value && *value >= low && *value <= high) return *value;
  if (high == std::numeric_limits<T>::max()) {
    fail(ErrorCode::invalid_argument, "[flags] {}: '{}', a whole number of at least {}", flag, text,
         low);
  }
  fail(ErrorCode::invalid_argument, "[flags] {}: '{}', a whole number from {} to {}", flag, text,
       low, high);
}

}  // namespace

CLI::Option* add_integer(CLI::App& app, const IntegerFlag& flag, std::int64_t& value,
                         bool show_default) {
  CLI::Option* option = add_parsed(
      app, flag.name, value,
      [flag](const std::string& text) {
        return number_in<std::int64_t>(flag.name, text, flag.low, flag.high);
      },
      "N", flag.help);
  return show_default ? option->default_str(std::to_string(value)) : option;
}

CLI::Option* add_unsigned(CLI::App& app, const std::string& name, std::uint64_t& value,
                          const std::string& help) {
  return add_parsed(
             app, name, value,
             [name](const std::string& text) {
               return number_in<std::uint64_t>(name, text, 0,
                                               std::numeric_limits<std::uint64_t>::max());
             },
             "N", help)
      ->default_str(std::to_string(value));
}

std::string examples(const std::string& lines) { return "\nExamples:\n" + lines; }

}  // namespace comet::cli
