// SPDX-License-Identifier: Apache-2.0
// Checks that a piece of code throws comet::Error with a code and words in its sentence.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "comet/error.hpp"

namespace comet {

template <typename Body>
void expect_error(ErrorCode code, const std::string& words, const Body& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.code()), to_string(code)) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos)
        << "sentence: " << error.what() << "\nlacks: " << words;
  }
}

}  // namespace comet
