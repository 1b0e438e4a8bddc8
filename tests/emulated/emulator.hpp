// SPDX-License-Identifier: Apache-2.0
// Runs a kernel on a CPU as a GPU would: a thread block after the other, a block's threads as
// fibers that are switched only where they meet, at barriers and in exchanges of a warp, or sleep.
// Which of them goes on is drawn at random, in some blocks such that few are far ahead of the
// others, and so is the order of the blocks: a barrier that is missing shows as a wrong result in
// one of some runs. What a GPU would hang or go wrong at ends the program with a sentence. Memory
// is strongly ordered: fences are not tested.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

namespace comet::emulated {

inline constexpr unsigned kWarp = 32;

/// Coordinates and sizes, by CUDA's names for the fields.
struct Index {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

// Of the running thread, inside of run_grid; written there alone.
extern Index thread_index;
extern Index block_index;
extern Index block_size;
extern Index grid_size;

/// Runs `body` as each thread of `num_blocks` blocks of `num_threads`, all of one dimension.
/// `waits` says that each thread must call wait_for_grids_before.
void run_grid(unsigned num_blocks, unsigned num_threads, bool waits,
              const std::function<void()>& body);

/// Waits for all threads of the block, none of which may have ended.
void sync_block();

/// Waits for the lanes of `mask`, among which must be the caller's, and returns what each of them
/// has handed in; of others anything. Valid until the thread's next exchange or its end.
const std::array<std::uint64_t, kWarp>& exchange(std::uint32_t mask, std::uint64_t value);

/// Has all others that can go on do so first: for threads that wait for what others write.
void let_others_go_on();

/// Where the thread waits for the kernel before.
void wait_for_grids_before();

/// Ends the program with a sentence about the running thread.
[[noreturn]] void fail_thread(const char* what);

}  // namespace comet::emulated
