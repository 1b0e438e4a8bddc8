// SPDX-License-Identifier: Apache-2.0
#include "comm/process/process_world.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "comet/error.hpp"
#include "comm/forked_group.hpp"

namespace comet {
namespace {

using std::chrono::milliseconds;

// Where the ranks are: what there is to test is the same on one host and on several.
enum class Layout : std::uint8_t { one_host, two_hosts, hosts_of_one };

class ProcessWorlds : public testing::TestWithParam<Layout> {
 protected:
  std::vector<int> host_ends() const {
    if (GetParam() == Layout::one_host) return {};
    if (GetParam() == Layout::two_hosts) return {1};  // rank 0 alone, the others together
    return {1, 2, 3, 4};
  }
  bool has_one_host() const { return GetParam() == Layout::one_host; }

  std::vector<ForkedEnd> run_worlds(
      int size, const std::function<std::string(World&)>& body,
      milliseconds timeout = milliseconds(20000),
      const std::function<void(const std::vector<pid_t>&, const ForkedArena&)>& meanwhile = {})
      const {
    return run_forked(
        size,
        [&](std::unique_ptr<ForkedGroup> group) {
          ProcessWorld world(std::move(group), timeout);
          return body(world);
        },
        meanwhile, std::chrono::seconds(60), host_ends());
  }
};

void expect_all(const std::vector<ForkedEnd>& ends, const std::string& text) {
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    EXPECT_EQ(ends[rank].signal, 0) << "rank " << rank;
    EXPECT_EQ(ends[rank].text, text) << "rank " << rank;
  }
}

// What a call throws, or "nothing".
std::string thrown_by(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return fmt::format("{}: {}", to_string(error.code()), error.what());
  }
  return "nothing";
}

TEST_P(ProcessWorlds, RanksMeetAndShowEachOtherAnySize) {
  for (const int size : {1, 2, 5}) {
    expect_all(run_worlds(size,
                          [&](World& world) -> std::string {
                            if (world.size() != size || world.kind() != "forked") return "who?";
                            for (const std::size_t count : {0, 1, 512, 513, 5000}) {
                              std::vector<std::uint64_t> own(count);
                              std::iota(own.begin(), own.end(), 1000000 * world.rank());
                              std::vector<std::uint64_t> all(count * size);
                              world.all_gather(own.data(), all.data(), count * 8);
                              for (std::size_t i = 0; i < all.size(); ++i) {
                                const std::size_t want = i / count * 1000000 + i % count;
                                if (all[i] != want) return fmt::format("{} at {}", all[i], i);
                              }
                              world.barrier();
                            }
                            return {};
                          }),
               "");
  }
}

TEST_P(ProcessWorlds, SymmetricMemoryIsZeroedAlignedAndSeenByAll) {
  expect_all(run_worlds(3,
                        [](World& world) -> std::string {
                          for (const std::size_t bytes : {1, 4096, 100000}) {
                            const SymmetricBuffer buffer = world.allocate(bytes);
                            if (buffer.peers.size() != 3 || buffer.bytes != bytes) return "sizes";
                            if (buffer.local != buffer.peers[world.rank()]) return "local";
                            if (reinterpret_cast<std::uintptr_t>(buffer.local) % 4096 != 0)
                              return "border";
                            for (std::size_t i = 0; i < bytes; ++i) {
                              if (buffer.local[i] != std::byte{0}) return "not zero";
                            }
                            world.barrier();
                            const int next = (world.rank() + 1) % 3;
                            std::byte* const last = buffer.peers[next] + bytes - 1;
                            *last = std::byte(world.rank() + 1);
                            const WorldView& view = world.view();
                            if (view.is_remote(next)) view.remote->put(next, last, 1);
                            world.barrier();
                            if (buffer.local[bytes - 1] != std::byte((world.rank() + 2) % 3 + 1))
                              return "value";
                          }
                          return {};
                        }),
             "");
}

TEST_P(ProcessWorlds, SignalsWakeSleepersOfOtherProcesses) {
  expect_all(run_worlds(2,
                        [](World& world) -> std::string {
                          auto* slot =
                              reinterpret_cast<std::uint32_t*>(world.allocate(64).peers[1]);
                          WorldView& view = world.view();
                          for (std::uint32_t i = 1; i <= 200; ++i) {
                            if (world.rank() == 0) view.signal(1, slot, i);
                            if (world.rank() == 1) {
                              const auto deadline =
                                  std::chrono::steady_clock::now() + std::chrono::seconds(5);
                              while (!has_reached(slot, i)) {
                                const std::uint32_t seen = view.doorbell().value();
                                if (has_reached(slot, i)) break;
                                if (std::chrono::steady_clock::now() > deadline) return "overslept";
                                view.doorbell().sleep(seen, deadline);
                              }
                            }
                            world.barrier();
                          }
                          return {};
                        }),
             "");
}

TEST_P(ProcessWorlds, DisagreementIsAnErrorOfAllAndTheWorldGoesOn) {
  expect_all(
      run_worlds(3,
                 [](World& world) -> std::string {
                   const auto bytes = static_cast<std::size_t>(world.rank() == 2 ? 16 : 8);
                   std::string said = thrown_by([&] { world.allocate(bytes); });
                   if (said !=
                       "mismatch: [world] bytes of allocate differ between ranks: 8, 8, 16 in rank "
                       "order, one size")
                     return said;
                   said =
                       thrown_by([&] { world.rank() == 1 ? world.barrier() : world.set_link({}); });
                   if (said !=
                       "mismatch: [world] ranks are in different collective calls: rank 0 in "
                       "set_link, rank 1 in barrier")
                     return said;
                   said = thrown_by([&] {
                     world.set_link({.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 1});
                   });
                   if (said.find("unsupported: [world] link: paced:1") != 0) return said;
                   world.barrier();
                   return {};
                 }),
      "");
}

TEST_P(ProcessWorlds, ARankThatStaysAwayIsNamedAndTheWorldRecovers) {
  expect_all(run_worlds(
                 3,
                 [](World& world) -> std::string {
                   for (int round = 0; round < 3; ++round) {
                     if (world.rank() != 1) {
                       const std::string said = thrown_by([&] { world.barrier(); });
                       if (said.find("timeout: [world] rank ") != 0 ||
                           said.find("waited 300 ms in barrier for rank 1") == std::string::npos) {
                         return said;
                       }
                     } else {
                       std::this_thread::sleep_for(milliseconds(500));
                       if (thrown_by([&] { world.barrier(); }) == "nothing")
                         return "late, and good";
                     }
                     world.recover();
                     world.barrier();
                   }
                   return {};
                 },
                 milliseconds(300)),
             "");
}

TEST_P(ProcessWorlds, AFaultReachesAllRanksWithItsSentence) {
  expect_all(run_worlds(4,
                        [](World& world) -> std::string {
                          if (world.rank() == 2)
                            world.view().report_failure(ErrorCode::internal, "[test] it broke");
                          const std::string said = thrown_by([&] {
                            for (;;) world.barrier();
                          });
                          const std::string want = world.rank() == 2 ? "internal: [test] it broke"
                                                                     : "peer: [test] it broke";
                          if (said != want) return said;
                          world.recover();
                          world.barrier();
                          return {};
                        }),
             "");
}

TEST_P(ProcessWorlds, ADeadRankIsNamedAtOnce) {
  for (int victim = 0; victim < 3; ++victim) {
    const auto ends = run_worlds(3, [victim](World& world) -> std::string {
      // What the first barrier of another rank waits for may still be on its way.
      return thrown_by([&] {
        world.barrier();
        if (world.rank() == victim) ::raise(SIGKILL);
        for (;;) world.barrier();
      });
    });
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == victim) {
        EXPECT_EQ(ends[rank].signal, SIGKILL);
        continue;
      }
      EXPECT_EQ(ends[rank].signal, 0);
      EXPECT_EQ(
          ends[rank].text.find(fmt::format("peer: [world] rank {} is gone: its process ", victim)),
          0U)
          << ends[rank].text;
      EXPECT_LT(ends[rank].seconds, 3) << "of 20 that a wait may last";
    }
  }
}

TEST_P(ProcessWorlds, ARankThatLeavesWithAnExceptionIsNamedAtOnce) {
  const auto ends = run_worlds(3, [](World& world) -> std::string {
    return thrown_by([&] {
      world.barrier();
      if (world.rank() == 1) throw std::runtime_error("out of ideas");
      for (;;) world.barrier();
    });
  });
  EXPECT_EQ(ends[1].text, "threw: out of ideas");
  for (const int rank : {0, 2}) {
    EXPECT_EQ(ends[rank].text, "peer: [world] rank 1 has left with an exception");
    EXPECT_LT(ends[rank].seconds, 3);
  }
}

// What is wrong with a world that this rank leaves after so long.
std::string fault_after(World& world, milliseconds time) {
  world.barrier();
  std::this_thread::sleep_for(time);
  const FailureBoard& failures = *world.view().failures;
  return thrown_by([&] {
    if (failures.failed()) failures.rethrow(world.rank());
  });
}

// One rank leaves, then one of another host, which has heard by then that the first has; the third
// is late, and must not be told that somebody has died.
TEST_P(ProcessWorlds, RanksThatLeaveOneAfterTheOtherAreNotGone) {
  for (const std::array<int, 3>& order :
       {std::array{1, 0, 2}, std::array{2, 0, 1}, std::array{0, 1, 2}, std::array{1, 2, 0}}) {
    const auto body = [&](World& world) {
      const auto place = std::find(order.begin(), order.end(), world.rank()) - order.begin();
      return fault_after(world, milliseconds(150) * place);
    };
    expect_all(run_worlds(3, body), "nothing");
  }
}

// As one rank saves and prints what all have computed. Those that have left still hear the others,
// as long as they wait for them.
TEST_P(ProcessWorlds, RanksThatLeaveLaterThanWaitsMayLastAreNotGone) {
  for (const int first : {0, 1}) {
    const auto body = [&](World& world) {
      return fault_after(world, milliseconds(world.rank() == first ? 0 : 1400));
    };
    expect_all(run_worlds(3, body, milliseconds(800)), "nothing");
  }
}

TEST_P(ProcessWorlds, AStoppedRankIsNamedWithinTheTimeout) {
  const auto ends = run_worlds(
      3,
      [](World& world) -> std::string {
        world.barrier();
        if (world.rank() == 1) ::raise(SIGSTOP);
        return thrown_by([&] {
          for (;;) world.barrier();
        });
      },
      milliseconds(700),
      [](const std::vector<pid_t>& pids, const ForkedArena& /*arena*/) {
        std::this_thread::sleep_for(milliseconds(2500));
        ::kill(pids[1], SIGKILL);
      });
  for (const int rank : {0, 2}) {
    // Whatever comes first: the end of a wait, or of the time in which a connection may be silent.
    const bool is_named =
        ends[rank].text.find("waited 700 ms in barrier for rank 1") != std::string::npos ||
        (!has_one_host() && ends[rank].text.find("rank 1 is gone") != std::string::npos);
    EXPECT_TRUE(is_named) << ends[rank].text;
    EXPECT_LT(ends[rank].seconds, 2.7);
  }
}

TEST_P(ProcessWorlds, AStoppedRankOfThisHostIsTheCauseWhateverItSaidLast) {
  const auto ends = run_worlds(
      3,
      [](World& world) -> std::string {
        ProgressBoard& progress = *world.view().progress;
        world.barrier();  // all have made their boards, which begin as new
        // Ranks 0 and 1 wait for each other, as far as they say.
        progress.set(world.rank(), {7, Stage::publish, world.rank() == 0 ? 1 : 0});
        world.barrier();
        if (world.rank() == 1) ::raise(SIGSTOP);
        std::this_thread::sleep_for(milliseconds(300));
        return progress.describe_cause(0);
      },
      milliseconds(700),
      [](const std::vector<pid_t>& pids, const ForkedArena& /*arena*/) {
        std::this_thread::sleep_for(milliseconds(900));
        ::kill(pids[1], SIGKILL);
      });
  if (!has_one_host()) return;
  for (const int rank : {0, 2}) {
    EXPECT_EQ(ends[rank].text, "cause: rank 1, in publish of call 7, its process is stopped");
  }
}

TEST_P(ProcessWorlds, RecoveryNamesWhoDoesNotCome) {
  const auto ends = run_worlds(
      3,
      [](World& world) -> std::string {
        world.view().report_failure(ErrorCode::internal, "[test] it broke");
        if (world.rank() == 2) {
          std::this_thread::sleep_for(milliseconds(900));
          return {};
        }
        return thrown_by([&] { world.recover(); });
      },
      milliseconds(400));
  for (const int rank : {0, 1}) {
    EXPECT_EQ(ends[rank].text,
              fmt::format("timeout: [world] rank {} waited 400 ms in recover for rank 2", rank));
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, ProcessWorlds,
                         testing::Values(Layout::one_host, Layout::two_hosts, Layout::hosts_of_one),
                         [](const auto& tested) -> std::string {
                           if (tested.param == Layout::one_host) return "OneHost";
                           return tested.param == Layout::two_hosts ? "TwoHosts" : "HostsOfOne";
                         });

}  // namespace
}  // namespace comet
