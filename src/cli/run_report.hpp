// SPDX-License-Identifier: Apache-2.0
// What `comet run` prints.
#pragma once

#include <string>

#include "cli/run_layer.hpp"

namespace comet::cli {

struct RunSummary {
  const MoeBlock& block;
  std::string world = "local";  ///< World::kind().
  ParallelDesc parallel;
  Backend backend = Backend::cpu;
  LinkSpec link;
  Schedule schedule = Schedule::comet;
  std::int64_t groups = 1;
  int workers = 1;
  const LayerResult& result;
  std::string out;  ///< Empty if nothing was written.
};

/// Whether the check passed, or none was asked for.
bool is_run_good(const LayerResult& result);

std::string run_text(const RunSummary& summary);

}  // namespace comet::cli
