// SPDX-License-Identifier: Apache-2.0
// No wake-up is lost, no sleep outlasts its deadline, and it works in shared memory.
#include "comm/doorbell.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <thread>
#include <vector>

namespace comet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// Sleeps until `word` is `wanted`; false if that took longer than any healthy machine needs.
bool await(Doorbell& doorbell, const std::atomic<int>& word, int wanted) {
  const auto deadline = steady_clock::now() + seconds(20);
  while (true) {
    if (steady_clock::now() >= deadline) return false;  // Also if the word is there: no ring came.
    const std::uint32_t seen = doorbell.value();
    if (word.load(std::memory_order_acquire) == wanted) return true;
    doorbell.sleep(seen, deadline);
  }
}

// One side of a ping-pong: answers each odd value with the next even one.
bool answer(Doorbell& own, Doorbell& other, std::atomic<int>& word, int num_rounds) {
  for (int round = 0; round < num_rounds; ++round) {
    if (!await(own, word, 2 * round + 1)) return false;
    word.store(2 * round + 2, std::memory_order_release);
    other.ring();
  }
  return true;
}

bool ask(Doorbell& own, Doorbell& other, std::atomic<int>& word, int num_rounds) {
  for (int round = 0; round < num_rounds; ++round) {
    word.store(2 * round + 1, std::memory_order_release);
    other.ring();
    if (!await(own, word, 2 * round + 2)) return false;
  }
  return true;
}

TEST(Doorbell, LosesNoWakeUpInPingPong) {
  constexpr int kRounds = 20000;
  Doorbell left;
  Doorbell right;
  std::atomic<int> word{0};
  bool answered = false;
  std::thread thread([&] { answered = answer(right, left, word, kRounds); });
  EXPECT_TRUE(ask(left, right, word, kRounds));
  thread.join();
  EXPECT_TRUE(answered);
}

// Moves this thread to the `idx`-th processor that it may use, if there are that many.
void move_to_processor(int idx) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || idx-- > 0) continue;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    ::sched_setaffinity(0, sizeof(only), &only);
    return;
  }
}

// Both threads call it; it returns on both at nearly the same time.
void meet(std::atomic<int>& own, std::atomic<int>& other, int round) {
  own = round;
  for (int tries = 0; other < round; ++tries) {
    if (tries > 2000) std::this_thread::yield();
  }
}

void spin(int steps) {
  for (std::atomic<int> step{0}; step < steps;) ++step;
}

// In ping-pong the sleeper is asleep long before the ring. Here the two start together on two
// processors, each round with another head start, so that rings fall between the steps of going to
// sleep. (A doorbell that sleeps on the present value and not on the seen one fails at once.)
TEST(Doorbell, LosesNoWakeUpWhenRingAndSleepCoincide) {
  constexpr int kRounds = 20000;
  Doorbell doorbell;
  std::atomic<int> word{0};
  std::atomic<int> ringer_round{0};
  std::atomic<int> sleeper_round{0};
  std::thread ringer([&] {
    move_to_processor(0);
    for (int round = 1; round <= kRounds; ++round) {
      meet(ringer_round, sleeper_round, round);
      spin(round % 61);
      word.store(round, std::memory_order_release);
      doorbell.ring();
    }
  });
  int num_lost = 0;
  std::thread sleeper([&] {
    move_to_processor(1);
    for (int round = 1; round <= kRounds; ++round) {
      meet(sleeper_round, ringer_round, round);
      spin(round % 17);
      if (num_lost == 0 && !await(doorbell, word, round)) ++num_lost;
    }
  });
  ringer.join();
  sleeper.join();
  EXPECT_EQ(num_lost, 0);
}

TEST(Doorbell, WakesAllSleepers) {
  constexpr int kThreads = 6;
  constexpr int kRounds = 300;
  Doorbell doorbell;
  Doorbell done;
  std::atomic<int> word{0};
  std::atomic<int> num_seen{0};
  std::atomic<int> num_lost{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 1; round <= kRounds; ++round) {
        if (!await(doorbell, word, round)) ++num_lost;
        num_seen.fetch_add(1, std::memory_order_acq_rel);
        done.ring();
      }
    });
  }
  for (int round = 1; round <= kRounds; ++round) {
    word.store(round, std::memory_order_release);
    doorbell.ring();
    ASSERT_TRUE(await(done, num_seen, round * kThreads));
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_lost, 0);
}

TEST(Doorbell, ReturnsAtDeadline) {
  Doorbell doorbell;
  const auto start = steady_clock::now();
  const auto deadline = start + milliseconds(50);
  // A spurious return is allowed, so this sleeps again until the time has come.
  while (steady_clock::now() < deadline) doorbell.sleep(doorbell.value(), deadline);
  EXPECT_LT(steady_clock::now() - start, seconds(5));
}

TEST(Doorbell, ReturnsAtOnceAfterARingOrThePast) {
  Doorbell doorbell;
  const std::uint32_t seen = doorbell.value();
  doorbell.ring();
  const auto start = steady_clock::now();
  doorbell.sleep(seen, start + seconds(20));
  doorbell.sleep(doorbell.value(), start - seconds(1));
  doorbell.sleep(doorbell.value(), steady_clock::time_point::min());
  doorbell.sleep(seen, steady_clock::time_point::max());
  EXPECT_LT(steady_clock::now() - start, seconds(10));
}

TEST(Doorbell, WakesAnotherProcess) {
  struct Shared {
    Doorbell left, right;
    std::atomic<int> word{0};
  };
  constexpr int kRounds = 200;
  void* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const shared = new (memory) Shared;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::_exit(answer(shared->right, shared->left, shared->word, kRounds) ? 0 : 1);
  }
  EXPECT_TRUE(ask(shared->left, shared->right, shared->word, kRounds));
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::munmap(memory, sizeof(Shared));
}

}  // namespace
}  // namespace comet
