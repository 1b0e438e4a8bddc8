// SPDX-License-Identifier: Apache-2.0
#include "cli/file_flags.hpp"

#include <filesystem>
#include <system_error>

#include "base/check.hpp"
#include "cli/flags.hpp"
#include "io/follow_links.hpp"
#include "io/new_file.hpp"

namespace comet::cli {
namespace {

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;  // at least one of them is not there
  if (std::filesystem::equivalent(a, b, error)) return true;
  const auto place = [](const std::string& path) {
    return std::filesystem::absolute(follow_links(path)).lexically_normal();
  };
  return place(a) == place(b);
}

// `kind` is of what is named, for sentences.
CLI::Option* add_named(CLI::App& app, const std::string& name, std::string& value, const char* kind,
                       const std::string& help) {
  const std::string flag = name.substr(name.rfind("--"));
  return add_parsed(
      app, name, value,
      [flag, kind](const std::string& text) {
        check(!text.empty(), ErrorCode::invalid_argument, "[flags] {}: '', the name of a {}", flag,
              kind);
        // Else a forgotten name would make a file of the next flag, which then does nothing.
        check(!text.starts_with("--"), ErrorCode::invalid_argument,
              "[flags] {}: '{}', the name of a {}; one that begins with -- is given as './{}'",
              flag, text, kind, text);
        return text;
      },
      "", help);
}

}  // namespace

CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value,
                      const std::string& help) {
  return add_named(app, name, value, "file", help)->type_name("FILE");
}

CLI::Option* add_folder(CLI::App& app, const std::string& name, std::string& value,
                        const std::string& help) {
  return add_named(app, name, value, "folder", help)->type_name("DIR");
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
