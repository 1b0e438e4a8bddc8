// SPDX-License-Identifier: Apache-2.0
// make_device_ranks: the ranks of one process's world spread over its GPUs, and the words that they
// share. The memory of the words lies on the first rank's GPU, which the others reach as peers.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/host/devices.hpp"
#include "backend/cuda/host/rank_device.hpp"
#include "backend/cuda/host/timer_origin.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "base/check.hpp"
#include "comm/device_ranks.hpp"

namespace comet {
namespace cuda {
namespace {

// The GPUs of a world: no more than its ranks or than `most`, if that is not 0, which is counted
// from the current one on.
std::vector<int> choose_gpus(int ranks, int most) {
  std::vector<int> gpus = find_hoppers();
  if (most > 0) {
    int current = 0;
    check_cuda(cudaGetDevice(&current), "finding the current device");
    const auto at = std::find(gpus.begin(), gpus.end(), current);
    std::rotate(gpus.begin(), at != gpus.end() ? at : gpus.begin(), gpus.end());
  }
  const auto limit = static_cast<std::size_t>(most > 0 ? std::min(most, ranks) : ranks);
  if (limit < gpus.size()) gpus.resize(limit);
  return gpus;
}

void enable_peers(const std::vector<int>& devices) {
  for (const int device : devices) {
    check_cuda(cudaSetDevice(device), "choosing a device");
    for (const int peer : devices) {
      if (peer == device) continue;
      int can = 0;
      check_cuda(cudaDeviceCanAccessPeer(&can, device, peer), "asking for peer access");
      check(can != 0, ErrorCode::unsupported,
            "[cuda] GPU {} cannot reach GPU {}'s memory: set CUDA_VISIBLE_DEVICES to GPUs that can",
            device, peer);
      const cudaError_t status = cudaDeviceEnablePeerAccess(peer, 0);
      if (status == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();
      } else {
        check_cuda(status, "enabling peer access");
      }
    }
  }
}

class LocalRanks final : public DeviceRanks {
 public:
  LocalRanks(int size, const LocalWorldOptions& options) {
    shared_.host_link = options.link.kind == LinkSpec::Kind::host;
    ask_for_queues();
    const std::vector<int> devices = choose_gpus(size, options.max_gpus);
    enable_peers(devices);
    make_shared_words(size, devices.front(), options.timeout);
    const auto num_devices = static_cast<int>(devices.size());
    for (int d = 0; d < num_devices; ++d) {
      // Ranks of a GPU are neighbours, as those of a host are.
      const int first = (size * d + num_devices - 1) / num_devices;
      const int end = (size * (d + 1) + num_devices - 1) / num_devices;
      check_cuda(cudaSetDevice(devices[static_cast<std::size_t>(d)]), "choosing a device");
      DeviceWorld world = shared_;
      for (int rank = first; rank < end; ++rank) {
        std::unique_ptr<Partition> partition = make_partition(rank - first, end - first);
        if (rank == first) world.timer_origin_ns = find_timer_origin(partition->stream());
        world.rank = rank;
        ranks_.push_back(std::make_unique<RankDevice>(
            devices[static_cast<std::size_t>(d)], end - first > 1, std::move(partition), world));
      }
    }
    check_residency();
  }

  DeviceRank& rank(int rank) override { return *ranks_[static_cast<std::size_t>(rank)]; }

  std::byte* allocate_symmetric(int rank, std::size_t bytes) override {
    RankDevice& device = *ranks_[static_cast<std::size_t>(rank)];
    device.make_current();
    const auto size = static_cast<std::int64_t>(bytes);
    try {
      return shared_.host_link ? device.allocate_pinned(size) : device.allocate(size);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::capacity) throw;
      return nullptr;
    }
  }

  void set_pace(double gigabytes_per_second) override {
    const float ns_per_byte =
        gigabytes_per_second > 0 ? static_cast<float>(1.0 / gigabytes_per_second) : 0.0F;
    check_cuda(cudaSetDevice(shared_device_), "choosing a device");
    const std::vector<unsigned long long> free(2 * static_cast<std::size_t>(shared_.size), 0);
    check_cuda(cudaMemcpy(shared_.clocks, free.data(), free.size() * 8, cudaMemcpyDefault),
               "clearing the link's clocks");
    check_cuda(cudaMemcpy(const_cast<float*>(shared_.ns_per_byte), &ns_per_byte,
                          sizeof(ns_per_byte), cudaMemcpyDefault),
               "setting the link's rate");
  }

  void clear_failure() override {
    const std::uint32_t none[] = {0, 0};
    check_cuda(cudaSetDevice(shared_device_), "choosing a device");
    check_cuda(cudaMemcpy(shared_.claim, none, sizeof(none), cudaMemcpyDefault),
               "forgetting a failure");
    std::atomic_ref(*shared_.failed).store(0);
  }

  std::atomic<std::uint64_t>* progress_words() noexcept override {
    static_assert(sizeof(std::atomic<std::uint64_t>) == sizeof(unsigned long long));
    return reinterpret_cast<std::atomic<std::uint64_t>*>(shared_.progress);
  }
  std::uint32_t* failed_word() noexcept override { return shared_.failed; }

 private:
  // Whether kernels on all streams of all ranks run at once, as they must when they wait for each
  // other: each leaves only once all have been reached.
  void check_residency() {
    constexpr std::uint64_t kLimitNs = 1'000'000'000;
    *shared_.failed = 0;
    std::uint32_t* const missed = shared_.failed + 1;
    *missed = 0;
    for (const auto& rank : ranks_) {
      rank->make_current();
      DeviceWorld world = rank->world();
      world.start_size = 2 * shared_.size;
      world.timeout_ns = kLimitNs;
      launch_start_line(world, missed, rank->partition().stream());
      launch_start_line(world, missed, rank->partition().copy_stream());
    }
    for (const auto& rank : ranks_) {
      const std::string trouble = rank->drain();
      check(trouble.empty(), ErrorCode::internal, "[cuda] first kernels of rank {}: {}",
            rank->world().rank, trouble);
    }
    check(*missed == 0, ErrorCode::unsupported,
          "[cuda] kernels of {} ranks do not all run at once: set CUDA_DEVICE_MAX_CONNECTIONS=32 "
          "before CUDA starts, and let no debugger or profiler serialise kernels",
          shared_.size);
  }

  void make_shared_words(int size, int device, std::chrono::milliseconds timeout) {
    shared_device_ = device;
    check_cuda(cudaSetDevice(device), "choosing a device");
    // On the device: clocks [2 * size] of 8 bytes, then claim, start line and rate.
    const std::int64_t clock_words = 2 * std::int64_t{size};
    words_ = DeviceBuffer<unsigned long long>(clock_words + 2);
    check_cuda(cudaMemset(words_.data(), 0, words_.bytes()), "clearing device memory");
    check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "clearing device memory");
    shared_.clocks = words_.data();
    shared_.claim = reinterpret_cast<std::uint32_t*>(words_.data() + clock_words);
    shared_.start_line = shared_.claim + 1;
    shared_.ns_per_byte = reinterpret_cast<const float*>(shared_.claim + 2);
    // On the host: progress [size] of 8 bytes, the failure's word, expiries [size].
    const std::size_t progress_bytes = static_cast<std::size_t>(size) * 8;
    const std::size_t bytes =
        progress_bytes + 8 + static_cast<std::size_t>(size) * sizeof(DeviceExpiry);
    void* memory = nullptr;
    check_cuda(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable),
               "allocating pinned host memory");
    pinned_ = std::unique_ptr<void, cudaError_t (*)(void*)>(memory, cudaFreeHost);
    auto* start = static_cast<std::byte*>(memory);
    std::fill_n(start, bytes, std::byte{0});
    shared_.progress = reinterpret_cast<unsigned long long*>(start);
    shared_.failed = reinterpret_cast<std::uint32_t*>(start + progress_bytes);
    shared_.expiries = reinterpret_cast<DeviceExpiry*>(start + progress_bytes + 8);
    shared_.size = shared_.start_size = size;
    shared_.timeout_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(timeout).count());
  }

  int shared_device_ = 0;
  DeviceWorld shared_;
  DeviceBuffer<unsigned long long> words_;
  std::unique_ptr<void, cudaError_t (*)(void*)> pinned_{nullptr, cudaFreeHost};
  std::vector<std::unique_ptr<RankDevice>> ranks_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<DeviceRanks> make_device_ranks(int size, const LocalWorldOptions& options) {
  return std::make_unique<cuda::LocalRanks>(size, options);
}

bool is_cuda_built() noexcept { return true; }

}  // namespace comet
