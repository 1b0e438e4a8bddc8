// SPDX-License-Identifier: Apache-2.0
#include "layer/backends.hpp"

#include <algorithm>

#include "backend/cpu/tile_gemm.hpp"
#include "backend/cuda/layer_engine.hpp"
#include "base/check.hpp"
#include "comet/mpi_world.hpp"
#include "comm/device_ranks.hpp"

namespace comet {
namespace {

constexpr Schedule kTiledOnCpu[] = {Schedule::sequential, Schedule::pipelined, Schedule::comet};
constexpr Schedule kTiledOnCuda[] = {Schedule::sequential, Schedule::pipelined, Schedule::comet};

std::string gpu_text(const GpuPart& gpu) {
  const std::string text =
      fmt::format("{}, {} multiprocessors, {:.1f} GiB", gpu.name, gpu.multiprocessors,
                  static_cast<double>(gpu.memory_bytes) / (1 << 30));
  return gpu.is_usable ? text : text + " (no Hopper, which the kernels need)";
}

}  // namespace

std::string gpu_detail(bool is_built, std::span<const GpuPart> gpus) {
  if (!is_built) return "build with 'make cuda'; layers then run on Hopper GPUs";
  std::string text = "kernels for Hopper GPUs: ";
  if (gpus.empty()) return text + "no GPU on this machine";
  for (std::size_t first = 0; first < gpus.size();) {
    const std::string words = gpu_text(gpus[first]);
    std::size_t end = first + 1;
    while (end < gpus.size() && gpu_text(gpus[end]) == words) ++end;
    if (first > 0) text += "; ";
    if (end - first > 1) text += fmt::format("{} x ", end - first);
    text += words;
    first = end;
  }
  return text;
}

std::vector<GpuPart> describe_gpus() {
  std::vector<GpuPart> gpus;
  for (const GpuInfo& gpu : list_gpus()) {
    gpus.push_back({gpu.name, gpu.multiprocessors, gpu.memory_bytes, gpu.is_hopper});
  }
  return gpus;
}

std::vector<BuildPart> describe_backends() {
  return {{"cpu", true, std::string("tiles on threads, GEMM by ") + gemm_library_name()},
          {"reference", true, "serial, double accumulation: the truth"},
          {"cuda", is_cuda_built(), gpu_detail(is_cuda_built(), describe_gpus())}};
}

std::vector<BuildPart> describe_worlds() {
  std::vector<BuildPart> worlds = {
      {"local", true, "ranks are threads of one process: --world local:<ranks>"},
      {"process", true,
       "ranks are processes of this machine: comet launch --ranks <ranks> -- ..."}};
  const std::string missing = why_no_mpi();
  worlds.push_back(
      {"mpi", missing.empty(),
       missing.empty() ? "ranks are processes: mpirun -n <ranks> comet ..." : missing});
  const std::string no_nvshmem = why_no_nvshmem();
  worlds.push_back({"nvshmem", no_nvshmem.empty(),
                    no_nvshmem.empty()
                        ? "ranks are processes on GPUs: comet launch --ranks <ranks> --gpus <gpus> "
                          "-- ... --backend cuda, or mpirun"
                        : no_nvshmem});
  return worlds;
}

void require_backend(Backend backend) {
  if (backend != Backend::cuda) return;
  const std::vector<GpuPart> gpus = describe_gpus();
  check(std::any_of(gpus.begin(), gpus.end(), [](const GpuPart& gpu) { return gpu.is_usable; }),
        ErrorCode::unsupported, "[backend] nothing to run on: cuda: {}",
        gpu_detail(is_cuda_built(), gpus));
}

std::span<const Schedule> tiled_schedules(Backend backend) {
  if (backend == Backend::cuda) return kTiledOnCuda;
  return kTiledOnCpu;
}

void choose_layer_tile(Backend backend, LayerDims& dims) {
  if (backend == Backend::cuda) {
    cuda::choose_device_tile(dims);
  } else {
    choose_tile(dims);
  }
}

}  // namespace comet
