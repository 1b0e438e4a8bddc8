// SPDX-License-Identifier: Apache-2.0
// wgmma: a warpgroup's product of two shared-memory tiles, accumulated in registers (PTX ISA,
// sm_90a).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace comet::cuda {

/// Descriptor of a K-major tile in shared memory, rows of 64 16-bit elements (128 bytes) swizzled
/// by 128 bytes as TMA writes them; `address` is aligned to 1024 bytes. Adding 2 moves 16 elements
/// on.
__device__ __forceinline__ std::uint64_t wgmma_descriptor(std::uint32_t address) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kStrideOf8Rows = std::uint64_t{1024 >> 4} << 32;
  constexpr std::uint64_t kLeadingUnused = std::uint64_t{1} << 16;  // one swizzle atom spans K
  return ((address & 0x3FFFFU) >> 4) | kLeadingUnused | kStrideOf8Rows | kSwizzle128;
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Returns when at most PENDING committed groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// The text of the instruction, whose operands 0 to N / 2 - 1 are the accumulators, and their
// list as constraints.
// clang-format off
#define COMET_PLACES_32                                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                         \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define COMET_PLACES_64                                                                            \
  COMET_PLACES_32                                                                                  \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define COMET_PLACES_96                                                                            \
  COMET_PLACES_64                                                                                  \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define COMET_PLACES_128                                                                           \
  COMET_PLACES_96                                                                                  \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define COMET_SUMS_8(at)                                                                           \
  "+f"(d[at]), "+f"(d[at + 1]), "+f"(d[at + 2]), "+f"(d[at + 3]),                                  \
  "+f"(d[at + 4]), "+f"(d[at + 5]), "+f"(d[at + 6]), "+f"(d[at + 7])
#define COMET_SUMS_32(at)                                                                          \
  COMET_SUMS_8(at), COMET_SUMS_8(at + 8), COMET_SUMS_8(at + 16), COMET_SUMS_8(at + 24)
#define COMET_SUMS_64 COMET_SUMS_32(0), COMET_SUMS_32(32)
#define COMET_SUMS_96 COMET_SUMS_64, COMET_SUMS_32(64)
#define COMET_SUMS_128 COMET_SUMS_96, COMET_SUMS_32(96)
#define COMET_WGMMA(columns, type, places, a_at, b_at, accumulate_at, ...)                         \
  asm volatile(                                                                                    \
      "{.reg .pred p; setp.ne.b32 p, " accumulate_at ", 0;"                                        \
      "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type                         \
      " {" places "}, " a_at ", " b_at ", p, 1, 1, 0, 0;}"                                         \
      : __VA_ARGS__                                                                                \
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
#define COMET_WGMMA_OF_WIDTHS(type)                                                                \
  if constexpr (N == 64)                                                                           \
    COMET_WGMMA("64", type, COMET_PLACES_32, "%32", "%33", "%34", COMET_SUMS_32(0));               \
  if constexpr (N == 128)                                                                          \
    COMET_WGMMA("128", type, COMET_PLACES_64, "%64", "%65", "%66", COMET_SUMS_64);                 \
  if constexpr (N == 192)                                                                          \
    COMET_WGMMA("192", type, COMET_PLACES_96, "%96", "%97", "%98", COMET_SUMS_96);                 \
  if constexpr (N == 256)                                                                          \
    COMET_WGMMA("256", type, COMET_PLACES_128, "%128", "%129", "%130", COMET_SUMS_128)
// clang-format on

/// d [64, N] = a [64, 16] * b [N, 16]^T, plus d if `accumulate`, in the first N / 2 of d; operands
/// of ELEMENT, __nv_bfloat16 or __half. Thread t of the warpgroup holds rows 16 * (t / 32) +
/// t % 32 / 4 (elements 4i and 4i + 1) and 8 further on (4i + 2, 4i + 3) of columns 8i + 2 * (t %
/// 4) and the next one.
template <int N, typename ELEMENT>
__device__ __forceinline__ void wgmma(float (&d)[128], std::uint64_t a, std::uint64_t b,
                                      bool accumulate) {
  static_assert(N == 64 || N == 128 || N == 192 || N == 256);
  if constexpr (std::is_same_v<ELEMENT, __half>) {
    COMET_WGMMA_OF_WIDTHS("f16");
  } else {
    static_assert(std::is_same_v<ELEMENT, __nv_bfloat16>);
    COMET_WGMMA_OF_WIDTHS("bf16");
  }
}

#undef COMET_WGMMA_OF_WIDTHS
#undef COMET_WGMMA
#undef COMET_SUMS_128
#undef COMET_SUMS_96
#undef COMET_SUMS_64
#undef COMET_SUMS_32
#undef COMET_SUMS_8
#undef COMET_PLACES_128
#undef COMET_PLACES_96
#undef COMET_PLACES_64
#undef COMET_PLACES_32

}  // namespace comet::cuda
