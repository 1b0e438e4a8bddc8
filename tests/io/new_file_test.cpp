// SPDX-License-Identifier: Apache-2.0
// NewFile: links are followed, permissions stay, and what is no file is not replaced.
#include "io/new_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "io/expect_error.hpp"
#include "io/follow_links.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"

namespace comet {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  NewFile file(path, "test");
  file.append(text);
  file.commit();
}

std::string read(const fs::path& path) { return read_text_file(path, 1 << 20); }

TEST(NewFile, WritesTheFileThatALinkLeadsTo) {
  const TempDir dir;
  fs::create_directories(dir / "far");
  dir.write("far/file", "old");
  fs::create_symlink("far/file", dir / "near");
  fs::create_symlink(dir / "near", dir / "link");  // from the root, over another link
  write(dir / "link", "new");
  EXPECT_EQ(read(dir / "far/file"), "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_TRUE(fs::is_symlink(dir / "near"));
  EXPECT_EQ(follow_links(dir / "link"), dir / "far/file");
}

TEST(NewFile, MakesTheFileOfADanglingLink) {
  const TempDir dir;
  fs::create_symlink("file", dir / "link");
  write(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(dir / "file")));
  EXPECT_EQ(read(dir / "file"), "new");
  fs::create_symlink("nowhere/file", dir / "lost");
  expect_error(ErrorCode::io, "cannot create", [&] { write(dir / "lost", "new"); });
  // Under the name that the caller knows, not the temporary one.
  expect_error(ErrorCode::io, "nowhere/file': ", [&] { write(dir / "lost", "new"); });
}

TEST(NewFile, KeepsThePermissionsOfTheFile) {
  const TempDir dir;
  dir.write("file", "old");
  fs::create_symlink("file", dir / "link");
  for (const mode_t mode : {0600, 0640, 0666, 0755}) {
    ASSERT_EQ(::chmod((dir / "file").c_str(), mode), 0);
    for (const char* name : {"file", "link"}) {
      write(dir / name, "new");
      struct stat now = {};
      ASSERT_EQ(::stat((dir / "file").c_str(), &now), 0);
      EXPECT_EQ(now.st_mode & 07777, mode) << name;
    }
  }
}

// Links of a folder of the test's own: it writes to no device.
TEST(NewFile, RefusesALinkToWhatIsNoFile) {
  const TempDir dir;
  fs::create_symlink("/dev/null", dir / "device");
  expect_error(ErrorCode::io, "it is not a regular file", [&] { write(dir / "device", "new"); });
  EXPECT_TRUE(fs::is_symlink(dir / "device"));
  fs::create_symlink(dir.path(), dir / "folder");
  expect_error(ErrorCode::io, "it is not a regular file", [&] { write(dir / "folder", "new"); });
  fs::create_symlink("round", dir / "round");
  expect_error(ErrorCode::io, "its links lead nowhere", [&] { write(dir / "round", "new"); });
  EXPECT_TRUE(fs::is_symlink(dir / "round"));
}

// As /dev/stdout is, while the output goes to a file.
TEST(NewFile, RefusesALinkToAnOpenFile) {
  const TempDir dir;
  dir.write("file", "old");
  const int descriptor = ::open((dir / "file").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(descriptor, 0);
  fs::create_symlink("/proc/self/fd/" + std::to_string(descriptor), dir / "link");
  expect_error(ErrorCode::io, "what a process has open", [&] { write(dir / "link", "new"); });
  ::close(descriptor);
  EXPECT_EQ(read(dir / "file"), "old");
}

}  // namespace
}  // namespace comet
