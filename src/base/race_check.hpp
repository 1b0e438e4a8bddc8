// SPDX-License-Identifier: Apache-2.0
// Tells ThreadSanitizer what an uninstrumented library reads and writes, so that races with our own
// threads are found. Nothing in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)
// Entry points of the sanitizer's runtime that compilers emit for whole ranges; GCC knows them with
// a signed size.
extern "C" void __tsan_read_range(void* address, std::ptrdiff_t bytes);
extern "C" void __tsan_write_range(void* address, std::ptrdiff_t bytes);

namespace comet {
inline void library_reads(const void* address, std::size_t bytes) {
  __tsan_read_range(const_cast<void*>(address), static_cast<std::ptrdiff_t>(bytes));
}
inline void library_writes(void* address, std::size_t bytes) {
  __tsan_write_range(address, static_cast<std::ptrdiff_t>(bytes));
}
}  // namespace comet
#else
namespace comet {
inline void library_reads(const void*, std::size_t) {}
inline void library_writes(void*, std::size_t) {}
}  // namespace comet
#endif
