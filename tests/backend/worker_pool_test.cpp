// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/worker_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>

namespace comet {
namespace {

TEST(WorkerPool, RunsEachWorkerOnceAndWaitsForAll) {
  for (const int workers : {1, 2, 5}) {
    WorkerPool pool(workers);
    for (int round = 0; round < 50; ++round) {
      std::vector<std::atomic<int>> runs(workers);
      pool.run([&](int worker) { runs[worker].fetch_add(1); });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(WorkerPool, WorkerZeroIsTheCaller) {
  WorkerPool pool(3);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> same{false};
  pool.run([&](int worker) {
    if (worker == 0) same = std::this_thread::get_id() == caller;
  });
  EXPECT_TRUE(same);
}

}  // namespace
}  // namespace comet
