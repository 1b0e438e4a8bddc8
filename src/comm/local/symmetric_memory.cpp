// SPDX-License-Identifier: Apache-2.0
#include "comm/local/symmetric_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

#include "base/int_math.hpp"

namespace comet {
namespace {

constexpr std::int64_t kPageBytes = 4096;
constexpr std::size_t kMaxBytes = std::size_t{1} << 47;  // The address space of a process.

}  // namespace

SymmetricMemory::~SymmetricMemory() {
  for (const Mapping& mapping : mappings_) ::munmap(mapping.memory, mapping.bytes);
}

std::byte* SymmetricMemory::map(std::size_t bytes) {
  if (bytes > kMaxBytes) return nullptr;
  const auto mapped_bytes = static_cast<std::size_t>(
      round_up(std::max<std::int64_t>(static_cast<std::int64_t>(bytes), 1), kPageBytes));
  const std::lock_guard<std::mutex> lock(mutex_);
  mappings_.reserve(mappings_.size() + 1);  // So that nothing throws once the pages are there.
  void* const memory = ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  mappings_.push_back({static_cast<std::byte*>(memory), mapped_bytes});
  return mappings_.back().memory;
}

void SymmetricMemory::unmap(std::byte* memory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(mappings_.begin(), mappings_.end(),
                                  [&](const Mapping& m) { return m.memory == memory; });
  if (found == mappings_.end()) return;
  ::munmap(found->memory, found->bytes);
  mappings_.erase(found);
}

}  // namespace comet
