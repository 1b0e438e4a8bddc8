// SPDX-License-Identifier: Apache-2.0
// FolderLock: one at a time, gone with its process, and no obstacle where there is none.
#include "io/folder_lock.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "io/temp_dir.hpp"

namespace comet {
namespace {

TEST(FolderLock, OthersOfTheFolderWait) {
  const TempDir dir;
  std::optional<FolderLock> first(dir / "a");
  std::atomic<bool> has_second = false;
  std::thread other([&] {
    const FolderLock second(dir / "b");
    has_second = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(has_second);
  first.reset();
  other.join();
  EXPECT_TRUE(has_second);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path())) << "it leaves no file behind";
}

TEST(FolderLock, EndsWithAKilledProcess) {
  const TempDir dir;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(dir / "a");
    const char byte = 0;
    if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char byte = 1;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ::close(ready[0]);
  ::close(ready[1]);
  const auto start = std::chrono::steady_clock::now();
  const FolderLock lock(dir / "a");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(FolderLock, IsNoneWhereNoneCanBeTaken) {
  const TempDir dir;
  const auto start = std::chrono::steady_clock::now();
  const FolderLock of_no_folder(dir / "nowhere/a");
  const FolderLock again(dir / "nowhere/a");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace comet
