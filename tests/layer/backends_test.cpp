// SPDX-License-Identifier: Apache-2.0
// What comet info says of GPUs on machines that are not here, and what a build without CUDA
// refuses.
#include "layer/backends.hpp"

#include <gtest/gtest.h>

#include "comet/error.hpp"

namespace comet {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;
const GpuPart kH100{"NVIDIA H100 80GB HBM3", 132, 79 * kGiB, true};
const GpuPart kA100{"NVIDIA A100", 108, 40 * kGiB, false};

TEST(Backends, GpusInWords) {
  EXPECT_EQ(gpu_detail(false, {}), "build with 'make cuda'; layers then run on Hopper GPUs");
  EXPECT_EQ(gpu_detail(true, {}), "kernels for Hopper GPUs: no GPU on this machine");
  const GpuPart one[] = {kH100};
  EXPECT_EQ(gpu_detail(true, one),
            "kernels for Hopper GPUs: NVIDIA H100 80GB HBM3, 132 multiprocessors, 79.0 GiB");
  const GpuPart three[] = {kH100, kH100, kA100};
  EXPECT_EQ(gpu_detail(true, three),
            "kernels for Hopper GPUs: 2 x NVIDIA H100 80GB HBM3, 132 multiprocessors, 79.0 GiB; "
            "NVIDIA A100, 108 multiprocessors, 40.0 GiB (no Hopper, which the kernels need)");
}

TEST(Backends, CpuIsAlwaysThere) {
  EXPECT_NO_THROW(require_backend(Backend::cpu));
  EXPECT_EQ(describe_backends().front().name, "cpu");
  EXPECT_TRUE(describe_backends().front().is_built);
}

TEST(Backends, CudaWithoutGpusIsRefusedWithTheReason) {
  if (!describe_gpus().empty()) GTEST_SKIP() << "this machine has GPUs";
  try {
    require_backend(Backend::cuda);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("cuda: "), std::string::npos) << error.what();
  }
}

TEST(Backends, SchedulesBeginWithTheYardstick) {
  for (const Backend backend : {Backend::cpu, Backend::cuda}) {
    EXPECT_EQ(tiled_schedules(backend).front(), Schedule::sequential);
  }
  EXPECT_EQ(tiled_schedules(Backend::cpu).size(), 3U);
}

}  // namespace
}  // namespace comet
