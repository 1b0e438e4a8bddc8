// SPDX-License-Identifier: Apache-2.0
// Flags that name files, and what must hold of these before a long run.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace comet::cli {

/// A file's name, which "" is not: a shell makes that of a variable that is not set.
CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value,
                      const std::string& help);

/// A folder's name, likewise.
CLI::Option* add_folder(CLI::App& app, const std::string& name, std::string& value,
                        const std::string& help);

/// Throws Error(io) if no file can be made at `path`, which is not empty: better before a long run
/// than after it. `stage` is the first word of the sentence.
void check_writable(const std::string& path, const std::string& stage);

/// A file and the flag that names it, as typed.
struct FlagFile {
  std::string flag;
  std::string path;  ///< Empty: the flag was not given.
};
/// Throws Error(invalid_argument) if both are one file, which writing `written` would replace.
void check_apart(const FlagFile& written, const FlagFile& other);

}  // namespace comet::cli
