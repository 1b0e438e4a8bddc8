// SPDX-License-Identifier: Apache-2.0
// Kernels that only move bytes between two buffers, as the fused kernel's warps do: pulls by bulk
// copies through shared memory (overlap::Puller), pushes by loads and stores of 16 bytes a lane.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace comet::node {

/// Of each of a GPU's two buffers: five times the 50 MB that the level-2 cache of an H100 holds.
constexpr std::int64_t kBufferBytes = std::int64_t{256} << 20;

/// What a warp moves at a time.
constexpr std::int32_t kPieceBytes = 2048;

constexpr int kMostWarps = 8;  ///< Of a block.

/// Pieces go to the warps of the grid in turn, and begin anew at the end of the buffers.
struct LinkWork {
  const std::byte* from;          ///< [kBufferBytes]
  std::byte* to;                  ///< [kBufferBytes]
  std::uint32_t pieces_per_warp;  ///< The grid's pieces are fewer than 2^32.
};

/// `from` may be a peer's memory, written before the launch. `to` is the current device's.
void launch_pull(const LinkWork& work, int blocks, int warps, cudaStream_t stream);

/// `from` is the current device's memory, `to` may be a peer's.
void launch_push(const LinkWork& work, int blocks, int warps, cudaStream_t stream);

/// Loads both on the current device. Before any launch on it.
void preload_link_kernels();

}  // namespace comet::node
