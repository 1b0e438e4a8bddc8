// SPDX-License-Identifier: Apache-2.0
#include "gpus.hpp"

#include <algorithm>
#include <atomic>

#include "base/check.hpp"
#include "link_kernels.hpp"

namespace comet::node {
namespace {

using cuda::check_cuda;

int count_gpus(int wanted) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  check(status == cudaSuccess && count > 0, ErrorCode::unsupported, "[gpus] no GPU: {}",
        status == cudaSuccess ? "the driver lists none" : cudaGetErrorString(status));
  check(wanted <= count, ErrorCode::unsupported, "[gpus] --gpus: {}, this machine has {}", wanted,
        count);
  return wanted == 0 ? count : wanted;
}

// A layer's ranks reach all others' memory, so that is asked for, not only the neighbours'.
void reach_peers(int count) {
  for (int gpu = 0; gpu < count; ++gpu) {
    check_cuda(cudaSetDevice(gpu), "choosing a device");
    for (int peer = 0; peer < count; ++peer) {
      if (peer == gpu) continue;
      int can = 0;
      check_cuda(cudaDeviceCanAccessPeer(&can, gpu, peer), "asking for peer access");
      check(can != 0, ErrorCode::unsupported,
            "[gpus] GPU {} cannot reach GPU {}'s memory: set CUDA_VISIBLE_DEVICES to GPUs that can",
            gpu, peer);
      check_cuda(cudaDeviceEnablePeerAccess(peer, 0), "enabling peer access");
    }
  }
}

std::unique_ptr<CUevent_st, CudaDelete> make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "making an event");
  return std::unique_ptr<CUevent_st, CudaDelete>(event);
}

}  // namespace

Gpu::Gpu(int device) : index(device) {
  make_current();
  preload_link_kernels();
  preload_pattern_kernels();
  preload_signal_kernels();
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  stream_.reset(stream);
  begin = make_event();
  end = make_event();
  from = cuda::DeviceBuffer<std::byte>(kBufferBytes);
  to = cuda::DeviceBuffer<std::byte>(kBufferBytes);
  wrong = cuda::DeviceBuffer<WrongWords>(1);
  ping_pongs = cuda::DeviceBuffer<PingPongResult>(2);
  words_ = cuda::DeviceBuffer<std::uint32_t>(2 * kWordStride);
  check_cuda(cudaMemsetAsync(words_.data(), 0, words_.bytes(), stream), "clearing signals");
  launch_fill_pattern(reinterpret_cast<std::uint32_t*>(from.data()),
                      static_cast<std::uint32_t>(kBufferBytes / 4),
                      static_cast<std::uint32_t>(index), stream);
  check_cuda(cudaStreamSynchronize(stream), "filling a GPU's buffers");
}

void Gpu::make_current() const { check_cuda(cudaSetDevice(index), "choosing a device"); }

Gpus::Gpus(int wanted) {
  const int count = count_gpus(wanted);
  for (int gpu = 0; gpu < count; ++gpu) {
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, gpu), "reading a device's properties");
    check(properties.major == 9 && properties.minor == 0, ErrorCode::unsupported,
          "[gpus] GPU {}, {}, has compute capability {}.{}: the kernels need a Hopper GPU (9.0)",
          gpu, properties.name, properties.major, properties.minor);
    if (gpu == 0) name_ = properties.name;
    multiprocessors_ = gpu == 0 ? properties.multiProcessorCount
                                : std::min(multiprocessors_, properties.multiProcessorCount);
  }
  reach_peers(count);
  void* gate = nullptr;
  check_cuda(cudaHostAlloc(&gate, sizeof(std::uint32_t), cudaHostAllocPortable),
             "allocating pinned memory");
  gate_.reset(static_cast<std::uint32_t*>(gate));
  *gate_ = gate_value_;
  for (int gpu = 0; gpu < count; ++gpu) gpus_.push_back(std::make_unique<Gpu>(gpu));
}

Gpus::~Gpus() {
  open_gate();
  for (const auto& gpu : gpus_) {
    if (cudaSetDevice(gpu->index) == cudaSuccess) cudaDeviceSynchronize();
  }
}

void Gpus::hold(const Gpu& gpu) const { launch_gate(gate_.get(), gate_value_, gpu.stream()); }

void Gpus::open_gate() const noexcept {
  std::atomic_ref<std::uint32_t>(*gate_).store(gate_value_, std::memory_order_release);
}

}  // namespace comet::node
