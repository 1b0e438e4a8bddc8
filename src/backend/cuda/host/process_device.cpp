// SPDX-License-Identifier: Apache-2.0
// make_process_device: one rank's GPU, or its part of one, and memory that ranks of other processes
// reach by NVSHMEM's pointers, or put to where there are none.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/host/devices.hpp"
#include "backend/cuda/host/nvshmem_library.hpp"
#include "backend/cuda/host/rank_device.hpp"
#include "backend/cuda/host/timer_origin.hpp"
#include "base/check.hpp"

namespace comet {
namespace cuda {
namespace {

using GpuId = std::array<char, 16>;

// One for these ranks, or the machine's.
bool has_mps() {
  const char* const pipes = std::getenv("CUDA_MPS_PIPE_DIRECTORY");
  if (pipes != nullptr && *pipes != '\0') return true;
  std::error_code error;
  return std::filesystem::exists("/tmp/nvidia-mps/control", error);
}

// Makes this rank's GPU the current one; returns its number.
int choose_gpu(const ProcessDeviceOptions& options) {
  const std::vector<int> devices = find_hoppers();
  const auto count = static_cast<int>(devices.size());
  check(
      options.ranks_on_host <= count || has_mps(), ErrorCode::unsupported,
      "[cuda] {} ranks of a host on {} GPUs that rank {} sees: let each see all of its host's "
      "(CUDA_VISIBLE_DEVICES), or share one by NVIDIA's MPS: comet launch --gpus {} starts it, or "
      "name yours by CUDA_MPS_PIPE_DIRECTORY",
      options.ranks_on_host, count, options.rank, count);
  // Ranks of a GPU are neighbours, as in LocalRanks.
  const int index = options.ranks_on_host <= count
                        ? options.index_on_host
                        : options.index_on_host * count / options.ranks_on_host;
  const int device = devices[static_cast<std::size_t>(index)];
  check_cuda(cudaSetDevice(device), "choosing a device");
  check_cuda(cudaFree(nullptr), "initialising the device");
  return device;
}

// This rank among those that share its GPU.
struct Share {
  int index = 0;
  int count = 0;
};
Share find_share(const ProcessDeviceOptions& options, int device) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "reading a device's properties");
  GpuId own{};
  std::memcpy(own.data(), properties.uuid.bytes, own.size());
  std::vector<GpuId> all(static_cast<std::size_t>(options.size));
  options.all_gather(own.data(), all.data(), own.size());
  const auto here = all.begin() + options.rank;
  return {static_cast<int>(std::count(all.begin(), here, own)),
          static_cast<int>(std::count(all.begin(), all.end(), own))};
}

class NvshmemDevice final : public ProcessDevice {
 public:
  explicit NvshmemDevice(const ProcessDeviceOptions& options) : size_(options.size) {
    int device = 0;
    do_together(options, [&] { device = choose_gpu(options); });
    const Share share = find_share(options, device);
    heap_ = &join_nvshmem(options, share.count);
    std::unique_ptr<Partition> partition;
    do_together(options, [&] {
      partition = has_mps_limit() ? make_partition(0, 1) : make_partition(share.index, share.count);
      pin_words(options);
    });
    find_remote(options);
    make_shared_words(options);
    do_together(options, [&] {
      world_.timer_origin_ns = find_timer_origin(partition->stream());
      rank_ = std::make_unique<RankDevice>(device, share.count > 1, std::move(partition), world_,
                                           has_mirrors() ? &heap_->job() : nullptr);
    });
    do_together(options, [&] { check_residency(); });
  }

  ~NvshmemDevice() override {
    if (rank_) rank_->drain();
    rank_.reset();
  }
  NvshmemDevice(const NvshmemDevice&) = delete;
  NvshmemDevice& operator=(const NvshmemDevice&) = delete;

  DeviceRank& rank() noexcept override { return *rank_; }
  bool is_remote(int peer) const noexcept override {
    return is_remote_[static_cast<std::size_t>(peer)] != 0;
  }
  int first_putting() const noexcept override { return first_putting_; }

  DeviceMemory memory_for(std::size_t bytes) override {
    rank_->make_current();
    return heap_->memory_for(num_parts() * part_bytes(bytes));
  }

  std::vector<std::byte*> allocate(std::size_t bytes) override {
    rank_->make_current();
    const std::size_t part = part_bytes(bytes);
    std::byte* const start = heap_->allocate(num_parts() * part);
    if (start == nullptr) return {};
    memory_.push_back(start);
    check_cuda(cudaMemset(start, 0, num_parts() * part), "clearing device memory");
    check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "clearing device memory");
    // Every process has the same parts at the same places: its own, and mirrors of the others'.
    std::vector<std::byte*> peers;
    for (int rank = 0; rank < size_; ++rank) {
      std::byte* const here = start + (has_mirrors() ? static_cast<std::size_t>(rank) * part : 0);
      const bool is_here = rank == world_.rank || is_remote(rank);
      peers.push_back(is_here ? here : pointer(here, rank));
    }
    return peers;
  }

  void release() override {
    for (std::byte* memory : memory_) heap_->release(memory);
    memory_.clear();
  }

  void set_pace(double gigabytes_per_second) override {
    const float ns_per_byte =
        gigabytes_per_second > 0 ? static_cast<float>(1.0 / gigabytes_per_second) : 0.0F;
    const std::vector<unsigned long long> free(2 * static_cast<std::size_t>(size_), 0);
    rank_->upload(world_.clocks, free.data(), static_cast<std::int64_t>(free.size() * 8));
    rank_->upload(const_cast<float*>(world_.ns_per_byte), &ns_per_byte, sizeof(ns_per_byte));
  }

  void clear_failure() override {
    const std::uint32_t none = 0;
    rank_->upload(world_.claim, &none, sizeof(none));
    if (world_.rank == 0) rank_->upload(world_.start_line, &none, sizeof(none));
    std::atomic_ref(*world_.failed).store(0);
  }

  std::uint32_t* failed_word() noexcept override { return world_.failed; }

 private:
  // On every rank, or on none: parts lie alike everywhere.
  bool has_mirrors() const noexcept { return first_putting_ >= 0; }
  std::size_t num_parts() const noexcept {
    return has_mirrors() ? static_cast<std::size_t>(size_) : 1;
  }
  static std::size_t part_bytes(std::size_t bytes) noexcept {
    constexpr std::size_t kAlign = 4096;
    return (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
  }
  std::byte* pointer(std::byte* memory, int rank) const {
    return static_cast<std::byte*>(heap_->job().pointer(memory, rank));
  }
  // For the world itself, before it has a rank.
  std::byte* allocate_words(const ProcessDeviceOptions& options, std::size_t bytes) {
    check_memory_together(options, [&] { return heap_->memory_for(bytes); });
    std::byte* const words = heap_->allocate(bytes);
    check(words != nullptr, ErrorCode::capacity, "[world] nvshmem: no symmetric memory");
    memory_.push_back(words);
    return words;
  }

  // The process's own words, and those of progress, which the ranks of a host share.
  void pin_words(const ProcessDeviceOptions& options) {
    const std::size_t bytes = 8 + static_cast<std::size_t>(size_) * sizeof(DeviceExpiry);
    void* memory = nullptr;
    check_cuda(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault),
               "allocating pinned host memory");
    pinned_ = std::unique_ptr<void, cudaError_t (*)(void*)>(memory, cudaFreeHost);
    auto* const start = static_cast<std::byte*>(memory);
    std::fill_n(start, bytes, std::byte{0});
    world_.failed = reinterpret_cast<std::uint32_t*>(start);
    world_.expiries = reinterpret_cast<DeviceExpiry*>(start + 8);
    check_cuda(cudaHostRegister(options.progress_words, static_cast<std::size_t>(size_) * 8,
                                cudaHostRegisterMapped),
               "pinning the words of progress");
    registered_ = {options.progress_words, cudaHostUnregister};
    void* progress = nullptr;
    check_cuda(cudaHostGetDevicePointer(&progress, options.progress_words, 0),
               "finding the words of progress");
    world_.progress = static_cast<unsigned long long*>(progress);
    world_.rank = options.rank;
    world_.size = size_;
    world_.timeout_ns =
        static_cast<std::uint64_t>(std::chrono::nanoseconds(options.timeout).count());
  }

  void find_remote(const ProcessDeviceOptions& options) {
    is_remote_.assign(static_cast<std::size_t>(size_), 0);
    std::byte* const probe = allocate_words(options, 1);
    std::int32_t reaches_all = 1;
    for (int peer = 0; peer < size_; ++peer) {
      const bool is_reached = pointer(probe, peer) != nullptr;
      if (!is_reached) reaches_all = 0;
      if (peer == options.rank) continue;
      if (!is_reached || options.force_puts) is_remote_[static_cast<std::size_t>(peer)] = 1;
    }
    std::vector<std::int32_t> all(static_cast<std::size_t>(size_));
    options.all_gather(&reaches_all, all.data(), sizeof(reaches_all));
    const auto first = std::find(all.begin(), all.end(), 0);
    all_reached_ = first == all.end();
    if (!all_reached_) {
      first_putting_ = static_cast<int>(first - all.begin());
    } else if (options.force_puts && size_ > 1) {
      first_putting_ = 0;
    }
    do_together(options, [&] {
      if (!all_reached_) check_write_order();
      if (!has_mirrors()) return;
      remote_ = DeviceBuffer<std::uint8_t>(size_);
      remote_.copy_from(is_remote_.data());
      world_.is_remote = remote_.data();
    });
  }

  // A kernel sees what a network card writes in the order in which it came.
  static void check_write_order() {
    int device = 0;
    int order = 0;
    check_cuda(cudaGetDevice(&device), "finding the current device");
    check_cuda(cudaDeviceGetAttribute(&order, cudaDevAttrGPUDirectRDMAWritesOrdering, device),
               "reading a device's order of writes");
    check(order >= cudaGPUDirectRDMAWritesOrderingOwner, ErrorCode::unsupported,
          "[world] nvshmem: this GPU does not order what network cards write to it");
  }

  // Clocks [2 * size] of 8 bytes, rate and start line lie in rank 0's part where all reach it, else
  // in everybody's own. The claim is the process's own.
  void make_shared_words(const ProcessDeviceOptions& options) {
    const std::size_t clock_bytes = 2 * static_cast<std::size_t>(size_) * 8;
    std::byte* const own = allocate_words(options, clock_bytes + 16);
    do_together(options, [&] {  // all have cleared theirs
      check_cuda(cudaMemset(own, 0, clock_bytes + 16), "clearing device memory");
      check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "clearing device memory");
    });
    std::byte* const shared = all_reached_ ? pointer(own, 0) : own;
    world_.clocks = reinterpret_cast<unsigned long long*>(shared);
    world_.ns_per_byte = reinterpret_cast<const float*>(shared + clock_bytes);
    world_.start_line = reinterpret_cast<std::uint32_t*>(shared + clock_bytes + 4);
    world_.start_size = all_reached_ ? size_ : 1;
    world_.claim = reinterpret_cast<std::uint32_t*>(own + clock_bytes + 8);
  }

  // Whether the kernels of all ranks run at once, as they must when they wait for each other.
  void check_residency() {
    constexpr std::uint64_t kLimitNs = 5'000'000'000;
    std::uint32_t* const missed = world_.failed + 1;
    DeviceWorld world = rank_->world();
    world.start_size = 3 * world_.start_size;
    world.timeout_ns = kLimitNs;
    const Partition& partition = rank_->partition();
    for (const cudaStream_t stream :
         {partition.stream(), partition.copy_stream(), partition.put_stream()}) {
      launch_start_line(world, missed, stream);
    }
    const std::string trouble = rank_->drain();
    check(trouble.empty(), ErrorCode::internal, "[cuda] first kernels of rank {}: {}", world_.rank,
          trouble);
    check(
        *missed == 0, ErrorCode::unsupported,
        "[cuda] kernels of {} ranks do not all run at once: let ranks that share a GPU be started "
        "by comet launch --gpus, which runs MPS, and no debugger or profiler serialise kernels",
        size_);
  }

  int size_;
  SymmetricHeap* heap_ = nullptr;
  std::vector<std::uint8_t> is_remote_;  // [size]
  bool all_reached_ = true;              // by all, by pointers
  int first_putting_ = -1;
  DeviceBuffer<std::uint8_t> remote_;
  DeviceWorld world_;
  std::unique_ptr<void, cudaError_t (*)(void*)> pinned_{nullptr, cudaFreeHost};
  std::unique_ptr<void, cudaError_t (*)(void*)> registered_{nullptr, cudaHostUnregister};
  std::vector<std::byte*> memory_;  // of the heap
  std::unique_ptr<RankDevice> rank_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<ProcessDevice> make_process_device(const ProcessDeviceOptions& options) {
  return std::make_unique<cuda::NvshmemDevice>(options);
}

}  // namespace comet
