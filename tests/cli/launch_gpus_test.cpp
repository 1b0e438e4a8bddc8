// SPDX-License-Identifier: Apache-2.0
#include "cli/launch_gpus.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "io/expect_error.hpp"

namespace comet::cli {
namespace {

using Names = std::vector<std::string>;

// Sets a variable, or unsets it, and puts back what it was.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name); before != nullptr) before_ = before;
    set(value);
  }
  ~Variable() { set(before_ ? before_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

  std::string value() const {
    const char* const text = std::getenv(name_);
    return text != nullptr ? text : "";
  }

 private:
  void set(const char* value) const {
    if (value == nullptr) {
      ::unsetenv(name_);
    } else {
      ::setenv(name_, value, 1);
    }
  }

  const char* name_;
  std::optional<std::string> before_;
};

TEST(LaunchGpus, GpusAreNamedAsTheUserNamesThem) {
  const auto named = [](const char* visible, int gpus) {
    const Variable variable("CUDA_VISIBLE_DEVICES", visible);
    return name_gpus(gpus);
  };
  EXPECT_EQ(named(nullptr, 3), (Names{"0", "1", "2"}));
  EXPECT_EQ(named("6,GPU-1a, 2", 2), (Names{"6", "GPU-1a"}));
  EXPECT_EQ(named("6,GPU-1a, 2", 3), (Names{"6", "GPU-1a", "2"}));
  for (const char* const fewer : {"", "-1", "4", "4,-1,5", "4,,5"}) {
    expect_error(ErrorCode::invalid_argument, "CUDA_VISIBLE_DEVICES", [&] { named(fewer, 2); });
  }
}

TEST(LaunchGpus, ProcessesSeeTheGpusOfTheLaunch) {
  const Variable visible("CUDA_VISIBLE_DEVICES", "5,6,7");
  show_gpus({"5", "GPU-1a"}, false);
  EXPECT_EQ(visible.value(), "5,GPU-1a");
  show_gpus({"5", "GPU-1a"}, true);
  EXPECT_EQ(visible.value(), "0,1");
}

}  // namespace
}  // namespace comet::cli
