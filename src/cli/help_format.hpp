// SPDX-License-Identifier: Apache-2.0
// How help looks: descriptions wrapped to the line, no doubled blank lines.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace comet::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

}  // namespace comet::cli
