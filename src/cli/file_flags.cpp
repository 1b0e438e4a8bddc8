// SPDX-License-Identifier: Apache-2.0
#include "cli/file_flags.hpp"

#include <filesystem>
#include <system_error>

#include "base/check.hpp"
#include "cli/flags.hpp"
#include "io/new_file.hpp"

namespace comet::cli {
namespace {

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;  // at least one of them is not there
  if (std::filesystem::equivalent(a, b, error)) return true;
  return std::filesystem::absolute(a).lexically_normal() ==
         std::filesystem::absolute(b).lexically_normal();
}

}  // namespace

CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value,
                      const std::string& help) {
  const std::string flag = name.substr(name.rfind("--"));
  return add_parsed(
      app, name, value,
      [flag](const std::string& text) {
        check(!text.empty(), ErrorCode::invalid_argument, "[flags] {}: '', the name of a file",
              flag);
        return text;
      },
      "FILE", help);
}

void check_writable(const std::string& path, const std::string& stage) {
  const NewFile probe(path, stage);
}

void check_apart(const FlagFile& written, const FlagFile& other) {
  check(written.path.empty() || other.path.empty() || !is_same_file(written.path, other.path),
        ErrorCode::invalid_argument, "[flags] {}: '{}', a file other than that of {}", written.flag,
        written.path, other.flag);
}

}  // namespace comet::cli
