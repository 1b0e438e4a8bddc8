// SPDX-License-Identifier: Apache-2.0
// A row as one JSON object. Its keys are a contract with everything that reads result files; see
// docs/benchmarks.md.
#pragma once

#include <string>
#include <vector>

#include "measure/bench_case.hpp"

namespace comet {

/// What a row does not know by itself.
struct RowOrigin {
  std::string command;  ///< As typed.
  std::string date;     ///< ISO 8601, UTC, seconds.
  std::string device;   ///< The processor's name.
};

/// The origin of rows made now by `command`.
RowOrigin make_origin(std::string command);

/// One line without its line break. Figures that the case does not have are null.
std::string row_json(const BenchCase& bench, const BenchRow& row, const RowOrigin& origin);

}  // namespace comet
