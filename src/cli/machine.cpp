// SPDX-License-Identifier: Apache-2.0
#include "cli/machine.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

namespace comet::cli {
namespace {

// x86 and Arm names as /proc/cpuinfo spells them.
constexpr std::array<std::string_view, 14> kFeatures = {
    "avx2",     "fma",      "f16c",     "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_bf16", "avx_vnni", "asimd",   "sve",      "bf16",        "i8mm"};

// Value of the first line "<key> : <value>" of a /proc file, or nothing.
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::int64_t memory_of(std::string_view key) {
  std::int64_t kibibytes = 0;
  std::istringstream(proc_value("/proc/meminfo", key)) >> kibibytes;
  return kibibytes * 1024;
}

std::vector<std::string> read_features() {
  std::string flags = proc_value("/proc/cpuinfo", "flags");
  if (flags.empty()) flags = proc_value("/proc/cpuinfo", "Features");
  std::vector<std::string> found;
  std::istringstream words(flags);
  for (std::string word; words >> word;) {
    if (std::find(kFeatures.begin(), kFeatures.end(), word) != kFeatures.end()) {
      found.push_back(word);
    }
  }
  return found;
}

}  // namespace

Machine describe_machine() {
  return {.processor = proc_value("/proc/cpuinfo", "model name"),
          .features = read_features(),
          .cores = static_cast<int>(std::thread::hardware_concurrency()),
          .memory_bytes = memory_of("MemTotal"),
          .available_bytes = memory_of("MemAvailable")};
}

}  // namespace comet::cli
