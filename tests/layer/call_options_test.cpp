// SPDX-License-Identifier: Apache-2.0
// The limits of what a call may be asked for.
#include "layer/call_options.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>

namespace comet {
namespace {

// The last value that is allowed, and one more.
void expect_limit(const char* name, std::int64_t limit, std::int64_t beyond,
                  const std::function<void(ForwardOptions&, std::int64_t)>& set) {
  ForwardOptions options;
  set(options, limit);
  EXPECT_FALSE(find_option_fault({.rank = 3}, options)) << name << " " << limit;
  set(options, beyond);
  const auto fault = find_option_fault({.rank = 3}, options);
  ASSERT_TRUE(fault) << name << " " << beyond;
  EXPECT_EQ(fault->code, ErrorCode::invalid_argument);
  const std::string words = fmt::format("[forward] rank 3: {} is {}, allowed ", name, beyond);
  EXPECT_TRUE(fault->sentence.starts_with(words)) << fault->sentence;
}

TEST(CallOptions, HaveLimits) {
  const auto groups = [](ForwardOptions& of, std::int64_t value) { of.groups = value; };
  expect_limit("groups", 0, -1, groups);
  expect_limit("groups", kMaxGroups, kMaxGroups + 1, groups);
  const auto waves = [](ForwardOptions& of, std::int64_t value) { of.waves = value; };
  expect_limit("waves", 0, -1, waves);
  expect_limit("waves", kMaxWaves, kMaxWaves + 1, waves);
  const auto panel = [](ForwardOptions& of, std::int64_t value) { of.panel = value; };
  expect_limit("panel", 0, -1, panel);
  const auto chunk = [](ForwardOptions& of, std::int64_t value) { of.chunk = value; };
  expect_limit("chunk", 0, -1, chunk);
  const auto dispatch = [](ForwardOptions& of, std::int64_t value) {
    of.n_c_dispatch = static_cast<int>(value);
  };
  expect_limit("n_c_dispatch", -1, -2, dispatch);
  expect_limit("n_c_dispatch", kMaxWorkers, kMaxWorkers + 1, dispatch);
  const auto combine = [](ForwardOptions& of, std::int64_t value) {
    of.n_c_combine = static_cast<int>(value);
  };
  expect_limit("n_c_combine", -1, -2, combine);
  expect_limit("n_c_combine", kMaxWorkers, kMaxWorkers + 1, combine);
}

}  // namespace
}  // namespace comet
