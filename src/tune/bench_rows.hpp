// SPDX-License-Identifier: Apache-2.0
// Rows that `comet bench --json` wrote, as measured cases.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tune/fit_machine.hpp"

namespace comet {

/// A row with what a profile says of it.
struct BenchRecord {
  MeasuredCase measured;
  std::string device;
  std::string kind;  ///< What a suite calls it; may be empty.
  std::string commit;
  std::string date;
};

/// The rows of a file that are layers of uniform routing, by any schedule; other rows, such as
/// tests', are passed over. `path` is in JSON Lines. Throws Error(io), and Error(format) with the
/// line's number if a layer's row lacks a key.
std::vector<BenchRecord> read_bench_rows(const std::filesystem::path& path);

}  // namespace comet
