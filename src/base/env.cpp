// SPDX-License-Identifier: Apache-2.0
#include "base/env.hpp"

#include <cstdlib>
#include <string_view>

#include "base/check.hpp"
#include "base/read_number.hpp"

namespace comet {
namespace {

constexpr const char* kInterfaceName = "COMET_INTERFACE";
constexpr const char* kHostName = "COMET_HOST";
constexpr const char* kForcePutsName = "COMET_FORCE_PUTS";
constexpr const char* kProfileName = "COMET_PROFILE";

std::string text_of(const char* name) {
  const char* const text = std::getenv(name);
  return text != nullptr ? text : "";
}

Env read_env() {
  Env result;
  if (const char* text = std::getenv(kTimeoutVariable); text != nullptr) {
    const std::string_view value(text);
    const long long milliseconds = read_number<long long>(value).value_or(0);
    check(milliseconds >= 1 && milliseconds <= 86'400'000, ErrorCode::invalid_argument,
          "[environment] {}='{}': milliseconds, 1 to 86400000", kTimeoutVariable, value);
    result.timeout = std::chrono::milliseconds(milliseconds);
  }
  result.interface_name = text_of(kInterfaceName);
  result.host = text_of(kHostName);
  if (const std::string text = text_of(kForcePutsName); !text.empty()) {
    check(text == "0" || text == "1", ErrorCode::invalid_argument, "[environment] {}='{}': 0 or 1",
          kForcePutsName, text);
    result.force_puts = text == "1";
  }
  result.profile = text_of(kProfileName);
  return result;
}

}  // namespace

const Env& env() {
  static const Env instance = read_env();
  return instance;
}

std::vector<EnvLine> describe_env() {
  return {
      {kTimeoutVariable, std::to_string(env().timeout.count()),
       "longest wait for another rank, in milliseconds"},
      {kInterfaceName, env().interface_name,
       "network interface between hosts of a world of processes; empty: any"},
      {kHostName, env().host,
       "ranks with different values share no memory, as on different hosts; for tests"},
      {kForcePutsName, env().force_puts ? "1" : "0",
       "1: ranks on GPUs that are processes put to each other though they could write; for tests"},
      {kProfileName, env().profile, "file with measured choices, see docs/tuning.md"}};
}

}  // namespace comet
