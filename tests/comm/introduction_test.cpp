// SPDX-License-Identifier: Apache-2.0
// What processes say before they make anything: whoever cannot be a rank tells the others why.
#include "comm/process/introduction.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "comet/error.hpp"
#include "comm/forked_group.hpp"

namespace comet {
namespace {

std::string introduced(ProcessGroup& group, Backend backend) {
  try {
    return introduce(group, backend).size() == static_cast<std::size_t>(group.size()) ? "ok" : "?";
  } catch (const Error& error) {
    return fmt::format("{}: {}", to_string(error.code()), error.what());
  }
}

std::vector<std::string> texts_of(
    int size, const std::function<std::string(std::unique_ptr<ForkedGroup>)>& body) {
  std::vector<std::string> texts;
  for (const ForkedEnd& end : run_forked(size, body)) texts.push_back(end.text);
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Introduction, RanksThatWantTheSameMeet) {
  const auto body = [](std::unique_ptr<ForkedGroup> group) {
    return introduced(*group, Backend::cuda);
  };
  EXPECT_EQ(texts_of(3, body), Texts(3, "ok"));
}

TEST(Introduction, BackendsThatDifferAreAnErrorOfAll) {
  const auto body = [](std::unique_ptr<ForkedGroup> group) {
    return introduced(*group, group->rank() == 2 ? Backend::cpu : Backend::cuda);
  };
  EXPECT_EQ(texts_of(3, body),
            Texts(3,
                  "mismatch: [world] backends differ between ranks: rank 0 runs on cuda, rank 2 on "
                  "cpu"));
}

// Not that backends differ, of which it knows nothing.
TEST(Introduction, WhatARankRefusesIsTheErrorOfTheOthers) {
  const auto body = [](std::unique_ptr<ForkedGroup> group) {
    const int rank = group->rank();
    if (rank == 0) return introduced(*group, Backend::cuda);
    return fmt::format("first: {}", refuse_world(*group, fmt::format("[test] no {}", rank)));
  };
  EXPECT_EQ(texts_of(3, body), (Texts{"peer: [test] no 1", "first: 1", "first: 1"}));
}

TEST(Introduction, LongSentencesAreCut) {
  const auto body = [](std::unique_ptr<ForkedGroup> group) {
    if (group->rank() == 0) return introduced(*group, Backend::cpu);
    refuse_world(*group, std::string(5000, 'x'));
    return std::string();
  };
  EXPECT_EQ(texts_of(2, body)[0], "peer: " + std::string(399, 'x'));
}

}  // namespace
}  // namespace comet
