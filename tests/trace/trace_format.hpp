// SPDX-License-Identifier: Apache-2.0
// What the Trace Event Format asks of the events that Comet writes, as GoogleTest expectations.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace comet {

using ThreadKey = std::pair<int, int>;  // pid, tid

/// Complete events by thread, after all checks: keys and types per phase, names of every process
/// and thread that has events, tids unique in the file, and per thread intervals that nest.
inline std::map<ThreadKey, std::vector<nlohmann::json>> expect_trace_format(
    const nlohmann::json& file) {
  std::map<ThreadKey, std::vector<nlohmann::json>> threads;
  std::map<int, std::string> processes;
  std::map<ThreadKey, std::string> names;
  EXPECT_TRUE(file.is_object());
  EXPECT_EQ(file.at("displayTimeUnit"), "ms");
  for (const auto& [key, value] : file.at("otherData").items()) EXPECT_TRUE(value.is_string());
  for (const nlohmann::json& event : file.at("traceEvents")) {
    const ThreadKey key{event.at("pid").get<int>(), event.at("tid").get<int>()};
    EXPECT_GT(key.first, 0);  // 0 is the idle process to some viewers
    EXPECT_TRUE(event.at("name").is_string());
    EXPECT_TRUE(event.at("args").is_object());
    if (event.at("ph") == "M") {
      const std::string what = event.at("name");
      if (what == "process_name") processes[key.first] = event.at("args").at("name");
      if (what == "thread_name") names[key] = event.at("args").at("name");
      if (what.ends_with("_sort_index")) {
        EXPECT_TRUE(event.at("args").at("sort_index").is_number_integer());
      }
      continue;
    }
    EXPECT_EQ(event.at("ph"), "X") << event;
    EXPECT_TRUE(event.at("ts").is_number() && event.at("dur").is_number()) << event;
    EXPECT_GE(event.at("ts").get<double>(), 0) << event;
    EXPECT_GE(event.at("dur").get<double>(), 0) << event;
    EXPECT_TRUE(event.at("cat").is_string() && event.at("cname").is_string());
    for (const auto& [name, value] : event.at("args").items()) {
      EXPECT_TRUE(value.is_number_integer()) << name;
      EXPECT_GE(value.get<int>(), 0) << name;
    }
    threads[key].push_back(event);
  }
  std::set<int> tids;
  for (const auto& [key, name] : names) {
    EXPECT_TRUE(processes.contains(key.first)) << key.first;
    EXPECT_TRUE(tids.insert(key.second).second) << "tid twice: " << key.second;
  }
  for (const auto& [key, events] : threads) {
    EXPECT_TRUE(names.contains(key)) << key.first << " " << key.second;
    double until = 0;
    for (const nlohmann::json& event : events) {
      const double begin = event.at("ts"), length = event.at("dur");
      EXPECT_GE(begin, until - 1e-6) << names[key] << " " << event;
      until = begin + length;
    }
  }
  return threads;
}

}  // namespace comet
