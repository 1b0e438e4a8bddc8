// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/rank_device.hpp"

#include <algorithm>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

// A graph and what it takes to run it.
class CapturedGraph final : public DeviceGraph {
 public:
  CapturedGraph(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status, "instantiating a graph");
    check_cuda(cudaGraphUpload(graph_, stream_), "uploading a graph");
  }
  ~CapturedGraph() override { cudaGraphExecDestroy(graph_); }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void launch() override { check_cuda(cudaGraphLaunch(graph_, stream_), "launching a graph"); }

 private:
  cudaGraphExec_t graph_ = nullptr;
  cudaStream_t stream_;
};

cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  return event;
}

}  // namespace

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "asking a stream whether it is captured");
  return status != cudaStreamCaptureStatusNone;
}

void order_streams(cudaStream_t from, cudaStream_t to, cudaEvent_t event) {
  check_cuda(cudaEventRecord(event, from), "recording an event");
  check_cuda(cudaStreamWaitEvent(to, event, 0), "waiting for an event");
}

RankDevice::RankDevice(int device, bool is_shared, std::unique_ptr<Partition> partition,
                       const DeviceWorld& world, DevicePuts* puts)
    : device_(device),
      is_shared_(is_shared),
      partition_(std::move(partition)),
      world_(world),
      puts_(puts) {
  make_current();
  int l2 = 0;
  check_cuda(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device), "reading the size of L2");
  l2_bytes_ = l2;
  world_.epoch = reinterpret_cast<std::uint32_t*>(
      allocate(4 * sizeof(std::uint32_t) + sizeof(unsigned long long)));
  world_.busy = world_.epoch + 1;
  world_.failed_seen = world_.epoch + 2;
  world_.next_look = reinterpret_cast<unsigned long long*>(world_.epoch + 4);
  call_ended_ = make_event();
  forked_ = make_event();
  joined_ = make_event();
  preload_call_kernels();
}

RankDevice::~RankDevice() {
  cudaSetDevice(device_);
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  for (const cudaEvent_t event : {call_ended_, forked_, joined_}) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (void* memory : device_memory_) cudaFree(memory);
  for (void* memory : pinned_memory_) cudaFreeHost(memory);
}

void RankDevice::make_current() { check_cuda(cudaSetDevice(device_), "choosing a device"); }

std::byte* RankDevice::allocate(std::int64_t bytes) {
  device_memory_.reserve(device_memory_.size() + 1);
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  void* const memory = allocate_device(size);
  device_memory_.push_back(memory);
  check_cuda(cudaMemset(memory, 0, size), "clearing device memory");
  check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "clearing device memory");
  return static_cast<std::byte*>(memory);
}

std::byte* RankDevice::allocate_pinned(std::int64_t bytes) {
  pinned_memory_.reserve(pinned_memory_.size() + 1);
  void* memory = nullptr;
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  const cudaError_t status = cudaHostAlloc(&memory, size, cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail(ErrorCode::capacity, "[cuda] out of pinned host memory: rank {} needs {} bytes",
         world_.rank, bytes);
  }
  check_cuda(status, "allocating pinned host memory");
  pinned_memory_.push_back(memory);
  std::fill_n(static_cast<std::byte*>(memory), size, std::byte{0});
  return static_cast<std::byte*>(memory);
}

void RankDevice::upload(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault),
             "copying to the device");
  // From pageable memory it returns once it has read it, and no stream of a rank waits for the
  // rest.
  check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "copying to the device");
}

void RankDevice::download(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault),
             "copying from the device");
}

std::string RankDevice::drain() {
  for (const cudaStream_t stream :
       {last_stream_, partition_->stream(), partition_->copy_stream(), partition_->put_stream()}) {
    if (stream == nullptr) continue;
    const cudaError_t status = cudaStreamSynchronize(stream);
    if (status != cudaSuccess) return cudaGetErrorString(status);
  }
  return {};
}

void RankDevice::queue_start_line() { launch_start_line(world_, nullptr, partition_->stream()); }

std::unique_ptr<DeviceGraph> RankDevice::capture(const std::function<void()>& body) {
  const cudaStream_t stream = partition_->stream();
  // Other ranks' threads go on with calls that a capture of theirs would not allow.
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
             "beginning to capture a graph");
  cudaGraph_t graph = nullptr;
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph), "capturing a graph");
  return std::make_unique<CapturedGraph>(graph, stream);
}

void RankDevice::reset(std::uint32_t epoch) {
  make_current();
  const std::uint32_t words[] = {epoch, 0, 0};  // epoch, busy, failed_seen
  upload(world_.epoch, words, sizeof(words));
}

std::uint32_t RankDevice::epoch() {
  make_current();
  std::uint32_t epoch = 0;
  download(&epoch, world_.epoch, sizeof(epoch));
  return epoch;
}

void RankDevice::fork_from(void* stream) {
  make_current();
  order_streams(static_cast<cudaStream_t>(stream), partition_->stream(), forked_);
}

void RankDevice::join_to(void* stream) {
  make_current();
  order_streams(partition_->stream(), static_cast<cudaStream_t>(stream), joined_);
}

void RankDevice::begin_call(cudaStream_t stream) {
  if (is_shared_ && stream != partition_->stream()) {
    check(partition_->owns(stream), ErrorCode::invalid_argument,
          "[forward] rank {}: the stream is not of the rank's multiprocessors; where ranks share a "
          "GPU take World::stream(), between World::fork_from and join_to",
          world_.rank);
  }
  if (!is_capturing(stream) && last_stream_ != nullptr && last_stream_ != stream) {
    check_cuda(cudaStreamWaitEvent(stream, call_ended_, 0), "waiting for an event");
  }
}

void RankDevice::end_call(cudaStream_t stream) {
  last_stream_ = stream;
  if (!is_capturing(stream)) check_cuda(cudaEventRecord(call_ended_, stream), "recording an event");
}

cudaEvent_t RankDevice::event(std::size_t index) {
  while (events_.size() <= index) events_.push_back(make_event());
  return events_[index];
}

}  // namespace comet::cuda
