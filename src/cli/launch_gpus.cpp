// SPDX-License-Identifier: Apache-2.0
#include "cli/launch_gpus.hpp"

#include <cstdlib>
#include <string_view>

#include "base/check.hpp"

namespace comet::cli {
namespace {

constexpr const char* kVisibleGpus = "CUDA_VISIBLE_DEVICES";

// As CUDA reads the variable, an entry that names no GPU ends the list.
std::vector<std::string> split_gpus(std::string_view text) {
  constexpr std::string_view kSpace = " \t";
  std::vector<std::string> names;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    std::string_view name = text.substr(0, comma);
    const std::size_t begin = name.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) break;
    name = name.substr(begin, name.find_last_not_of(kSpace) + 1 - begin);
    if (name.front() == '-') break;
    names.emplace_back(name);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return names;
}

}  // namespace

std::vector<std::string> name_gpus(int gpus) {
  std::vector<std::string> names;
  const char* const visible = std::getenv(kVisibleGpus);
  if (visible == nullptr) {
    for (int gpu = 0; gpu < gpus; ++gpu) names.push_back(std::to_string(gpu));
    return names;
  }
  names = split_gpus(visible);
  check(names.size() >= static_cast<std::size_t>(gpus), ErrorCode::invalid_argument,
        "[launch] --gpus {}: {}='{}' lists {}", gpus, kVisibleGpus, visible, names.size());
  names.resize(static_cast<std::size_t>(gpus));
  return names;
}

void show_gpus(const std::vector<std::string>& names, bool are_served) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i > 0 ? "," : "") + (are_served ? std::to_string(i) : names[i]);
  }
  ::setenv(kVisibleGpus, list.c_str(), 1);
}

}  // namespace comet::cli
