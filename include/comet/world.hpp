// SPDX-License-Identifier: Apache-2.0
// World: the ranks that run a layer together, and the memory and links between them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace comet {

/// What executes a world's layers, and where its symmetric memory lies.
enum class Backend : std::uint8_t {
  cpu,   ///< Tiles on threads; host memory.
  cuda,  ///< Kernels on Hopper GPUs; device memory.
};

/// "cpu" or "cuda".
std::string_view to_string(Backend backend) noexcept;
/// Parses what to_string gives; throws Error(invalid_argument) on anything else.
Backend parse_backend(std::string_view name);

/// What joins two ranks.
struct LinkSpec {
  /// The kinds of links.
  enum class Kind : std::uint8_t {
    native,  ///< Whatever is there: on world `local`, CPU memory, device memory or NVLink.
    paced,   ///< Emulated: a clock at the source's egress and one at the destination's ingress.
    host,    ///< cuda only: symmetric memory is pinned host memory, so that what ranks send each
             ///< other crosses PCIe, a real and slow link, twice. Fixed when a world is made.
  };
  Kind kind = Kind::native;         ///< Real or emulated.
  double gigabytes_per_second = 0;  ///< Of each clock, 1e9 bytes per second; paced only.
  /// With `paced:auto:<r>`, the wished ratio of communication alone to computation alone; the rate
  /// is then found by measuring (see calibrate_link in layer.hpp). 0 if the rate is given.
  double auto_ratio = 0;
};

/// Parses "native", "host", "paced:<GB/s>" or "paced:auto[:<r>]" (r defaults to 0.6); throws
/// Error(invalid_argument) with what is allowed.
LinkSpec parse_link(std::string_view text);
/// The text that parse_link reads.
std::string to_string(const LinkSpec& link);

/// One symmetric allocation: the same size on every rank, readable and writable by all ranks of a
/// host. What a rank sees of a part on another host is a mirror, which changes only by what the two
/// send each other in a layer's calls. Owned by the World that made it and freed with it.
struct SymmetricBuffer {
  std::byte* local = nullptr;     ///< This rank's part.
  std::vector<std::byte*> peers;  ///< [size] every rank's part; peers[rank] == local.
  std::size_t bytes = 0;          ///< Of one rank's part.
};

/// One rank's handle on its world. Calls marked *collective* must be made by all ranks, in the same
/// order. A handle is used by one thread at a time; workers of a layer use the views inside.
class World {
 public:
  virtual ~World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  virtual int rank() const noexcept = 0;  ///< 0 to size() - 1.
  virtual int size() const noexcept = 0;  ///< Ranks in the world.
  /// "local", "mpi", "process" (see comet launch), "nvshmem", or "nvshmem-puts": ranks put to each
  /// other though they could write, by COMET_FORCE_PUTS, which tests the calls and no network.
  virtual std::string_view kind() const noexcept = 0;
  /// What executes layers of this world.
  virtual Backend backend() const noexcept = 0;
  /// Hosts that the ranks are on. Ranks of different hosts share no memory, see SymmetricBuffer.
  virtual int num_hosts() const noexcept { return 1; }

  /// Collective: zero-filled memory, aligned to 4096 bytes (256 on cuda), on every rank. `bytes`
  /// must be equal. Device memory on cuda, or pinned host memory with link `host`.
  virtual SymmetricBuffer allocate(std::size_t bytes) = 0;

  /// Collective: returns when all ranks have called it; throws Error(timeout) naming the missing
  /// ranks after the world's timeout.
  virtual void barrier() = 0;

  /// Collective: every rank's `bytes` bytes, in rank order, to `out` [size * bytes].
  virtual void all_gather(const void* in, void* out, std::size_t bytes) = 0;

  /// The link between ranks. set_link is collective; no call may be running. A world that was made
  /// with link `host` keeps it, and no other gets it.
  virtual LinkSpec link() const = 0;
  /// Changes the link; see link().
  virtual void set_link(const LinkSpec& link) = 0;

  /// Collective: makes a failed world good again, once every rank has got its error. Waits until
  /// all ranks have called it, forgets the failure and all half-done calls, and begins with epochs
  /// above all used, so that no old signal is mistaken for a new one. Layers and buffers stay
  /// valid. Throws Error(timeout) naming the missing ranks after the world's timeout; the world
  /// then stays failed and recover may be called again. On a good world it is a barrier.
  virtual void recover() = 0;

  /// Longest time that any wait for another rank may last.
  virtual std::chrono::milliseconds timeout() const noexcept = 0;

  /// cuda: CUDA's number of the GPU that this rank is on. -1 on cpu.
  virtual int device() const noexcept { return -1; }

  /// cuda: this rank's stream (a cudaStream_t), on which calls run that are given no other; its
  /// kernels run on the rank's multiprocessors alone. Null on cpu.
  virtual void* stream() const noexcept = 0;

  /// cuda: what is queued on stream() from now on comes after all that is on `stream`, a
  /// cudaStream_t of the same GPU, and joins its capture if there is one. For calls where ranks
  /// share a GPU and the caller's streams are not theirs; of ranks that fork from one stream all do
  /// before any joins it, or one would wait for another that waits for it. cpu: nothing.
  virtual void fork_from(void* stream) { static_cast<void>(stream); }
  /// cuda: what is queued on `stream` from now on comes after all that is on stream(); see
  /// fork_from.
  virtual void join_to(void* stream) { static_cast<void>(stream); }

  /// Signals, clocks and failure state, used by backends (src/comm/world_view.hpp).
  virtual struct WorldView& view() noexcept = 0;

 protected:
  World() = default;
};

/// How make_local_world sets up its world.
struct LocalWorldOptions {
  LinkSpec link = {};  ///< What joins the ranks.
  /// cuda spreads the ranks over all GPUs that the process sees. Ranks that share a GPU get their
  /// own multiprocessors each, a multiple of 8; Error(unsupported) if there are not enough.
  Backend backend = Backend::cpu;
  /// cuda: the most GPUs to spread them over, from the calling thread's current one on; 0: all.
  int max_gpus = 0;
  /// Default: the environment's COMET_TIMEOUT_MS, else 30 s.
  std::chrono::milliseconds timeout = std::chrono::milliseconds(0);
};

/// Makes a world whose ranks are threads of this process: element r is rank r's handle. The shared
/// state lives until the last handle is gone; each handle goes to one thread.
std::vector<std::unique_ptr<World>> make_local_world(int size,
                                                     const LocalWorldOptions& options = {});

/// Runs `body` on one thread per rank of a new local world and joins them. If ranks throw, rethrows
/// the first rank's error that is not just an echo of another rank's (ErrorCode::peer), else the
/// first.
void run_local_world(int size, const LocalWorldOptions& options,
                     const std::function<void(World&)>& body);

}  // namespace comet
