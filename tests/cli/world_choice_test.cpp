// SPDX-License-Identifier: Apache-2.0
#include "cli/world_choice.hpp"

#include <gtest/gtest.h>

#include "io/expect_error.hpp"

namespace comet::cli {
namespace {

TEST(WorldChoice, ReadsEveryKind) {
  const auto expect = [](std::string_view text, WorldKind kind, std::int64_t ranks) {
    const WorldChoice choice = parse_world(text);
    EXPECT_EQ(choice.kind, kind) << text;
    EXPECT_EQ(choice.ranks, ranks) << text;
  };
  expect("local", WorldKind::local, 0);
  expect("local:1", WorldKind::local, 1);
  expect("local:1024", WorldKind::local, 1024);
  expect("mpi", WorldKind::mpi, 0);
  expect("process", WorldKind::process, 0);
  expect("nvshmem", WorldKind::nvshmem, 0);
}

TEST(WorldChoice, RefusesAllElse) {
  for (const char* text : {"", "automatic", "local:", "local:0", "local:1025", "local:2x", "Mpi"}) {
    expect_error(ErrorCode::invalid_argument, "unknown world", [&] { parse_world(text); });
  }
  expect_error(ErrorCode::invalid_argument, "mpi alone", [] { parse_world("mpi:4"); });
  expect_error(ErrorCode::invalid_argument, "nvshmem alone", [] { parse_world("nvshmem:8"); });
}

}  // namespace
}  // namespace comet::cli
