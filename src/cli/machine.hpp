// SPDX-License-Identifier: Apache-2.0
// Facts about the machine, as Linux tells them; what it does not tell is empty or 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace comet::cli {

struct Machine {
  std::string processor;              ///< Model name.
  std::vector<std::string> features;  ///< Of those that matter to matrix products.
  int cores = 0;                      ///< That this process may use.
  std::int64_t memory_bytes = 0;
  std::int64_t available_bytes = 0;
};

Machine describe_machine();

}  // namespace comet::cli
