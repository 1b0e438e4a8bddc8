// SPDX-License-Identifier: Apache-2.0
// Layers on ranks that are forked processes: the bits of world local, and deaths in the middle of
// calls. COMET_RANDOM_KILLS sets the number of those (default 6).
#include <gtest/gtest.h>

#include "check/rng.hpp"
#include "comm/forked_group.hpp"
#include "conformance/number_from.hpp"
#include "conformance/process_cases.hpp"

namespace comet {
namespace {

using std::chrono::milliseconds;

// Ranks, and where hosts end, see run_forked.
struct Shape {
  int ranks;
  std::vector<int> host_ends;
};

class ProcessLayers : public testing::TestWithParam<Shape> {};

TEST_P(ProcessLayers, HaveTheBitsOfWorldLocal) {
  const int ranks = GetParam().ranks;
  const std::vector<ProcessCase> cases = make_process_cases(ranks, 6, 3);
  const auto ends = run_forked(
      ranks,
      [&](std::unique_ptr<ForkedGroup> group) -> std::string {
        ProcessWorld world(std::move(group), milliseconds(20000));
        for (const ProcessCase& c : cases) {
          const std::string difference = c.difference(c.run(run_on(world)));
          if (!difference.empty()) return difference;
        }
        return {};
      },
      {}, std::chrono::seconds(60), GetParam().host_ends);
  for (const ForkedEnd& end : ends) {
    EXPECT_EQ(end.signal, 0);
    EXPECT_EQ(end.text, "");
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ProcessLayers,
                         testing::Values(Shape{1, {}}, Shape{2, {}}, Shape{3, {}}, Shape{4, {}},
                                         Shape{2, {1}}, Shape{3, {1}}, Shape{3, {2}}, Shape{4, {2}},
                                         Shape{4, {1, 2, 3}}),
                         [](const auto& tested) {
                           std::string name = fmt::format("W{}", tested.param.ranks);
                           for (const int end : tested.param.host_ends) {
                             name += fmt::format("_host{}", end);
                           }
                           return name;
                         });

// One rank is killed at a random moment while layers are called; each other one ends with the
// sentence that names it.
TEST(ProcessDeaths, ARandomlyKilledRankIsNamedByAllOthers) {
  const std::uint64_t kills = number_from("COMET_RANDOM_KILLS", 6);
  for (std::uint64_t i = 0; i < kills; ++i) {
    Rng rng(17, i);
    const auto ranks = static_cast<int>(rng.between(2, 4));
    const auto victim = static_cast<int>(rng.between(0, ranks - 1));
    const milliseconds moment(rng.between(0, 150));
    // One host, or two with the border somewhere.
    const auto border = static_cast<int>(rng.between(0, ranks - 1));
    const std::vector<int> host_ends = border == 0 ? std::vector<int>{} : std::vector<int>{border};
    const ProcessCase c = make_process_case(plain_case(ranks, 5));
    const auto ends = run_forked(
        ranks,
        [&](std::unique_ptr<ForkedGroup> group) -> std::string {
          const ForkedArena& arena = group->arena();
          ProcessWorld world(std::move(group), milliseconds(10000));
          arena.count().fetch_add(1);
          try {
            for (;;) c.run(run_on(world));
          } catch (const Error& error) {
            return error.what();
          }
        },
        [&](const std::vector<pid_t>& pids, const ForkedArena& arena) {
          while (arena.count().load() < static_cast<std::uint64_t>(ranks)) {
            std::this_thread::sleep_for(milliseconds(1));
          }
          std::this_thread::sleep_for(moment);
          ::kill(pids[static_cast<std::size_t>(victim)], SIGKILL);
        },
        std::chrono::seconds(30), host_ends);
    for (int rank = 0; rank < ranks; ++rank) {
      const ForkedEnd& end = ends[static_cast<std::size_t>(rank)];
      SCOPED_TRACE(fmt::format("kill {} of {}: rank {} of {}, host border {}, after {} ms", i,
                               kills, victim, ranks, border, moment.count()));
      if (rank == victim) {
        EXPECT_EQ(end.signal, SIGKILL);
        continue;
      }
      EXPECT_EQ(end.signal, 0);
      EXPECT_NE(end.text.find(fmt::format("rank {} is gone", victim)), std::string::npos)
          << end.text;
      EXPECT_LT(end.seconds, 5);
    }
  }
}

}  // namespace
}  // namespace comet
