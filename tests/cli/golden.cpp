// SPDX-License-Identifier: Apache-2.0
#include "cli/golden.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace comet::cli {
namespace {

// "line 3: 'got' instead of 'expected'".
std::string first_difference(const std::string& text, const std::string& expected) {
  std::istringstream got_lines(text);
  std::istringstream expected_lines(expected);
  for (int line = 1;; ++line) {
    std::string got;
    std::string wanted;
    const bool has_got = static_cast<bool>(std::getline(got_lines, got));
    const bool has_wanted = static_cast<bool>(std::getline(expected_lines, wanted));
    if (has_got != has_wanted || got != wanted) {
      return "line " + std::to_string(line) + ": '" + got + "' instead of '" + wanted + "'";
    }
    if (!has_got) return "the final line break";
  }
}

}  // namespace

void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(COMET_GOLDEN) + "/" + name;
  if (std::getenv("COMET_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path, std::ios::binary) << text;
    return;
  }
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << "no golden file " << path;
  std::ostringstream expected;
  expected << file.rdbuf();
  EXPECT_TRUE(text == expected.str()) << name << ": " << first_difference(text, expected.str());
}

}  // namespace comet::cli
