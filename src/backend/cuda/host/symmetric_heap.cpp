// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/symmetric_heap.hpp"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/host/driver.hpp"
#include "backend/cuda/host/nvshmem_library.hpp"
#include "base/check.hpp"
#include "base/scaled_number.hpp"

namespace comet::cuda {
namespace {

// CUDA gives not quite all that it calls free: page tables, its own allocations.
constexpr std::uint64_t kSpare = 32 << 20;

std::string_view variable(const char* name) {
  const char* const text = std::getenv(name);
  return text != nullptr ? text : "";
}

// A heap whose size is NVSHMEM_SYMMETRIC_SIZE, all of it the process's from the start, in which an
// allocation that does not fit fails on all ranks alike.
bool is_heap_fixed() {
  constexpr std::string_view kTrue = "1yYtT";
  const std::string_view without_vmm = variable("NVSHMEM_DISABLE_CUDA_VMM");
  const std::string_view kind = variable("NVSHMEM_HEAP_KIND");
  return (!without_vmm.empty() && kTrue.find(without_vmm.front()) != kTrue.npos) ||
         kind == "SYSMEM";
}

// What the heap grows by, a power of two.
std::size_t heap_granule() {
  constexpr std::size_t kDefault = std::size_t{512} << 20;
  constexpr std::size_t kSmallest = std::size_t{2} << 20;  // a page of a GPU
  const char* const text = std::getenv("NVSHMEM_CUMEM_GRANULARITY");
  const std::uint64_t bytes = text != nullptr ? parse_scaled(text) : 0;
  return bytes == 0 ? kDefault : std::max(std::bit_ceil(bytes), kSmallest);
}

std::size_t in_granules(std::size_t bytes) {
  const std::size_t granule = heap_granule();
  return (bytes + granule - 1) / granule * granule;
}

DeviceMemory memory_of(std::size_t bytes, int sharers) {
  std::size_t free = 0;
  std::size_t total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "reading a device's free memory");
  return {.needed = bytes == 0 ? 0 : static_cast<std::uint64_t>(sharers) * (bytes + kSpare),
          .free = free};
}

// Bytes from `place`, in the heap, to the end of the granules that are mapped together; 0 if the
// driver does not tell.
std::size_t mapped_after(std::byte* place) {
  const auto get = reinterpret_cast<decltype(&cuPointerGetAttribute)>(
      find_driver_function("cuPointerGetAttribute", 4000));
  const auto pointer = reinterpret_cast<CUdeviceptr>(place - 1);
  CUdeviceptr base = 0;
  std::size_t size = 0;
  if (get(&base, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, pointer) != CUDA_SUCCESS ||
      get(&size, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, pointer) != CUDA_SUCCESS) {
    return 0;
  }
  const std::size_t left = base + size - reinterpret_cast<CUdeviceptr>(place);
  return left < heap_granule() ? left : 0;
}

}  // namespace

SymmetricHeap::SymmetricHeap(NvshmemJob& job, const ProcessDeviceOptions& options, int sharers)
    : job_(job), sharers_(sharers) {
  constexpr std::size_t kFirst = 1 << 20;  // for what worlds have besides workspaces
  auto* const first = static_cast<std::byte*>(job_.allocate(kFirst));
  check(first != nullptr, ErrorCode::capacity, "[world] nvshmem: no symmetric memory");
  pool_.add(first, kFirst);
  struct Rest {
    DeviceMemory memory;  // if the rest is not there, after all
    std::uint64_t bytes = 0;
  };
  Rest own;
  do_together(options, [&] {
    if (!is_heap_fixed()) own = {memory_of(heap_granule(), sharers), mapped_after(first + kFirst)};
  });
  std::vector<Rest> all(static_cast<std::size_t>(options.size));
  options.all_gather(&own, all.data(), sizeof(own));
  std::uint64_t bytes = own.bytes;
  for (const Rest& rest : all) {
    bytes = rest.memory.free < rest.memory.needed ? 0 : std::min(bytes, rest.bytes);
  }
  if (bytes < SymmetricPool::kUnit) return;
  auto* const rest = static_cast<std::byte*>(job_.allocate(bytes));
  if (rest != nullptr) pool_.add(rest, bytes);
}

DeviceMemory SymmetricHeap::memory_for(std::size_t bytes) const {
  const bool is_there = is_heap_fixed() || pool_.has_room(bytes);
  return memory_of(is_there ? 0 : in_granules(bytes), sharers_);
}

std::byte* SymmetricHeap::allocate(std::size_t bytes) {
  if (std::byte* const memory = pool_.allocate(bytes); memory != nullptr) return memory;
  constexpr std::size_t kUnit = SymmetricPool::kUnit;
  const std::size_t more =
      is_heap_fixed() ? (bytes + kUnit - 1) / kUnit * kUnit : in_granules(bytes);
  auto* const piece = static_cast<std::byte*>(job_.allocate(more));
  if (piece == nullptr) return nullptr;
  pool_.add(piece, more);
  return pool_.allocate(bytes);
}

DeviceMemory SymmetricHeap::memory_to_start(int sharers) {
  return memory_of(is_heap_fixed() ? 0 : heap_granule(), sharers);
}

}  // namespace comet::cuda
