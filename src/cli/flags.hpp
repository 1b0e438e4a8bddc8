// SPDX-License-Identifier: Apache-2.0
// Flags whose values are checked as they are read: whole numbers in a range, and names that the
// library parses. Stricter than CLI11's own conversions, which take "010" for 8 and clamp overflow.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>

#include "comet/error.hpp"

namespace comet::cli {

struct IntegerFlag {
  std::string name;  ///< As CLI11 wants it, for example "--tokens".
  std::string help;
  std::int64_t low = 0;
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
};

/// `value` as it is now is the default shown by --help, if `show_default`.
CLI::Option* add_integer(CLI::App& app, const IntegerFlag& flag, std::int64_t& value,
                         bool show_default = true);

/// A seed or an index: 0 to 2^64 - 1.
CLI::Option* add_unsigned(CLI::App& app, const std::string& name, std::uint64_t& value,
                          const std::string& help);

/// `parse(text)` gives the value and throws Error on bad text; the sentence is passed on.
template <typename T, typename Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, T& value, Parse parse,
                        const std::string& type_name, const std::string& help) {
  return app
      .add_option(
          name,
          [&value, parse](const CLI::results_t& results) {
            value = parse(results.front());
            return true;
          },
          help)
      ->type_name(type_name);
}

/// The footer of a subcommand's help.
std::string examples(const std::string& lines);

}  // namespace comet::cli
