// SPDX-License-Identifier: Apache-2.0
#include "base/process_stat.hpp"

#include <fstream>
#include <sstream>

namespace comet {

std::string process_stat(std::string_view pid, int number) {
  std::ostringstream text;  // an iterator would throw if the process ends while it is read
  text << std::ifstream("/proc/" + std::string(pid) + "/stat", std::ios::binary).rdbuf();
  const std::string stat = text.str();
  const std::size_t name_end = stat.rfind(") ");  // the name may have any letters
  if (name_end == std::string::npos) return {};
  std::istringstream fields(stat.substr(name_end + 2));
  constexpr int kFirst = 3;  // the state, after the name
  std::string field;
  for (int index = kFirst; index <= number; ++index) fields >> field;
  return field;
}

bool is_process_stopped(int pid) {
  constexpr int kState = 3;
  const std::string state = process_stat(std::to_string(pid), kState);
  return state == "T" || state == "t";
}

}  // namespace comet
