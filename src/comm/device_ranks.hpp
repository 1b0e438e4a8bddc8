// SPDX-License-Identifier: Apache-2.0
// What a world knows of GPUs: memory, a stream per rank, and the words that its kernels share.
// comm defines it, backend/cuda implements it, backend/no_cuda.cpp stands in where that is not
// built.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comet/world.hpp"
#include "comm/device_memory.hpp"

namespace comet {

/// What a kernel writes before it gives up a wait: who waited for whom, and what it saw.
struct DeviceExpiry {
  std::uint32_t epoch;
  std::int32_t stage;   ///< comm Stage as a number.
  std::int32_t source;  ///< The rank that was waited for.
  std::uint32_t expected;
  std::uint32_t seen;
  std::int32_t panel;  ///< Of partial sums, or -1.
  std::int32_t block;  ///< Of 64 own tokens, or -1.
};

/// Words that the kernels of one rank share with those of the others and with hosts. Plain data;
/// pointers are valid on the rank's GPU, and on hosts where it says so.
struct DeviceWorld {
  std::int32_t rank = 0;
  std::int32_t size = 1;
  bool host_link = false;  ///< What ranks share, workspaces too, lies in pinned host memory.
  /// [size] device memory, nonzero for ranks whose memory this one cannot reach and has mirrors of,
  /// see RemoteRanks; null if there are none.
  const std::uint8_t* is_remote = nullptr;
  std::uint64_t timeout_ns = 0;
  /// [1] of this rank, device memory: calls begun.
  std::uint32_t* epoch = nullptr;
  /// [1] of this rank, device memory: 1 while a call runs.
  std::uint32_t* busy = nullptr;
  /// [1] of this rank, device memory: `failed` as a thread of the rank last saw it.
  std::uint32_t* failed_seen = nullptr;
  /// [1] of this rank, device memory: when one of its threads may look at host memory again,
  /// nanoseconds of the global timer.
  unsigned long long* next_look = nullptr;
  /// [1] of the world, device memory: nanoseconds that a byte takes on the link; 0: not paced.
  const float* ns_per_byte = nullptr;
  /// What to add to the global timer of this rank's GPU for the host's steady clock, nanoseconds:
  /// clocks of links are all ranks', whose GPUs have a timer each. See find_timer_origin.
  std::int64_t timer_origin_ns = 0;
  /// [2 * size] of the world, device memory: egress and ingress of each rank are busy until then,
  /// nanoseconds of the host's steady clock.
  unsigned long long* clocks = nullptr;
  /// [1] of the process, pinned host memory: 0, 1 + the rank whose wait expired, or kHostFailed.
  std::uint32_t* failed = nullptr;
  /// [1] of the process, device memory: taken by the first rank whose wait expires.
  std::uint32_t* claim = nullptr;
  /// [1] of the world, device memory: counts arrivals at start lines of `start_size` ranks.
  std::uint32_t* start_line = nullptr;
  std::int32_t start_size = 1;
  /// [size] of the world, pinned host memory: the words of its ProgressBoard.
  unsigned long long* progress = nullptr;
  /// [size] of the process, pinned host memory.
  DeviceExpiry* expiries = nullptr;
};

/// In DeviceWorld::failed: a host reported a failure, kernels are to leave.
inline constexpr std::uint32_t kHostFailed = 0x80000000U;

/// A captured sequence of kernels of one rank.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Queues it on the stream that it was captured on.
  virtual void launch() = 0;
};

/// One rank's GPU, or its part of one. Used by the rank's thread only, but for queue-free getters.
class DeviceRank {
 public:
  virtual ~DeviceRank() = default;

  virtual const DeviceWorld& world() const noexcept = 0;
  virtual int device() const noexcept = 0;           ///< CUDA's number of the GPU.
  virtual int multiprocessors() const noexcept = 0;  ///< Of this rank.
  virtual bool is_partition() const noexcept = 0;    ///< It shares the GPU with other ranks.
  virtual std::int64_t l2_bytes() const noexcept = 0;
  /// cudaStream_t. `stream` runs calls; `copy_stream` is the second queue of pipelined.
  virtual void* stream() const noexcept = 0;
  virtual void* copy_stream() const noexcept = 0;

  /// Makes the GPU the calling thread's current one; every call below and every launch needs it.
  virtual void make_current() = 0;
  /// See World.
  virtual void fork_from(void* stream) = 0;
  virtual void join_to(void* stream) = 0;
  /// Device memory of this rank, zeroed, aligned to 256 bytes, kept until the world is gone, since
  /// freeing waits for every rank's kernels. Throws Error(capacity).
  virtual std::byte* allocate(std::int64_t bytes) = 0;
  /// Pinned host memory that the GPU reaches by the same pointer; the same rules.
  virtual std::byte* allocate_pinned(std::int64_t bytes) = 0;
  /// Copies between host and device and waits for the copy.
  virtual void upload(void* to, const void* from, std::int64_t bytes) = 0;
  virtual void download(void* to, const void* from, std::int64_t bytes) = 0;
  /// Waits for the rank's own streams. Returns CUDA's error as text, empty if all is well.
  virtual std::string drain() = 0;
  /// Queues a kernel that leaves once all ranks' have been reached, so that what follows begins at
  /// about the same time everywhere. Collective. Ranks that reach not all others wait for none.
  virtual void queue_start_line() = 0;
  /// Captures what `body` queues on stream().
  virtual std::unique_ptr<DeviceGraph> capture(const std::function<void()>& body) = 0;
  /// Sets the epoch and forgets that a call runs. Only while no kernel of the rank does.
  virtual void reset(std::uint32_t epoch) = 0;
  virtual std::uint32_t epoch() = 0;
};

/// The GPUs of the ranks of one process's world.
class DeviceRanks {
 public:
  virtual ~DeviceRanks() = default;
  virtual DeviceRank& rank(int rank) = 0;
  /// Zeroed memory that all ranks reach, or null if there is no more; pinned host memory with link
  /// `host`. Kept until the world is gone.
  virtual std::byte* allocate_symmetric(int rank, std::size_t bytes) = 0;
  /// 1e9 bytes per second of each clock, 0 for none; forgets what was booked. Only while no kernel
  /// runs.
  virtual void set_pace(double gigabytes_per_second) = 0;
  /// Forgets that the world failed. Only while no kernel runs.
  virtual void clear_failure() = 0;
  /// For ProgressBoard and FailureBoard of the world.
  virtual std::atomic<std::uint64_t>* progress_words() noexcept = 0;
  virtual std::uint32_t* failed_word() noexcept = 0;
};

/// The GPU of one rank whose peers are other processes, and the memory that they share by NVSHMEM.
class ProcessDevice {
 public:
  virtual ~ProcessDevice() = default;
  virtual DeviceRank& rank() noexcept = 0;
  /// What is written to its part here stays here until it is put, see RemoteRanks.
  virtual bool is_remote(int peer) const noexcept = 0;
  /// The lowest rank with remote ranks, or -1 if none has any: the same on all ranks.
  virtual int first_putting() const noexcept = 0;
  /// What allocate(bytes) would take of the rank's GPU now.
  virtual DeviceMemory memory_for(std::size_t bytes) = 0;
  /// Collective, where all have the memory: zeroed memory of every rank, as this one sees it,
  /// [size]; empty if there is no more, then on all ranks. If some rank has remote ranks it takes
  /// `size` times `bytes`.
  virtual std::vector<std::byte*> allocate(std::size_t bytes) = 0;
  /// Gives back what allocate gave, for later worlds of these processes. Only while no rank's
  /// kernels use it; all ranks do.
  virtual void release() = 0;
  /// See DeviceRanks. One rank calls it for all; none may have remote ranks.
  virtual void set_pace(double gigabytes_per_second) = 0;
  /// See DeviceRanks; forgets this process's failure, and on rank 0 what start lines counted.
  virtual void clear_failure() = 0;
  virtual std::uint32_t* failed_word() noexcept = 0;
};

/// What a ProcessDevice begins with.
struct ProcessDeviceOptions {
  int rank = 0;
  int size = 1;
  int index_on_host = 0;  ///< Of this rank among those of its host, and how many they are.
  int ranks_on_host = 1;
  std::chrono::milliseconds timeout{};
  /// Ranks put to all others, also where they could write: a test of the putting.
  bool force_puts = false;
  /// [size] of the world, host memory of all ranks of the host: for its ProgressBoard.
  std::atomic<std::uint64_t>* progress_words = nullptr;
  /// Collective, as ProcessGroup's.
  std::function<void(const void* in, void* out, std::size_t bytes)> all_gather = {};
};

/// Collective. The ranks of a host spread over the GPUs that its processes see, neighbours
/// together; those of one GPU have their own multiprocessors each. Throws Error(unsupported),
/// on all ranks, if one has no Hopper GPU or NVSHMEM, or is in another set of NVSHMEM's processes.
std::unique_ptr<ProcessDevice> make_process_device(const ProcessDeviceOptions& options);

/// Why make_process_device cannot have NVSHMEM: what is missing and how to get it, without a full
/// stop. Empty if it can be had.
std::string why_no_nvshmem();

/// Spreads `size` ranks over the GPUs of this process, see LocalWorldOptions. Throws
/// Error(unsupported) if there is no Hopper GPU, or too few multiprocessors for so many ranks.
std::unique_ptr<DeviceRanks> make_device_ranks(int size, const LocalWorldOptions& options);

/// One GPU, for `comet info`.
struct GpuInfo {
  std::string name;
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  bool is_hopper = false;
};
/// GPUs that the process sees; empty without a driver, or where CUDA is not built.
std::vector<GpuInfo> list_gpus();
/// Whether layers can run on GPUs in this build.
bool is_cuda_built() noexcept;

}  // namespace comet
