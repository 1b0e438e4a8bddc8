// SPDX-License-Identifier: Apache-2.0
// Products of tiles of 64 rows, which do little but read weights: one, or two of which the second
// reads what the first writes, in one kernel, so that memory is at work from the first weight to the
// last. Persistent, one block per multiprocessor, a loading warpgroup and two that multiply. Blocks
// load weights while the kernel before still runs, and those of the second product while others
// compute the tile's rows.
#pragma once

#include "backend/cuda/device/memory_order.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/sm90_compute_tile.cuh"
#include "backend/cuda/kernels/sm90_load_tile.cuh"
#include "backend/cuda/kernels/sm90_piece_list.cuh"

namespace comet::cuda {
namespace sm90 {

// The pieces of both products, the second's after all of the first's. Blocks draw them by ticket: so
// what a piece waits for is computed by blocks that run, however many of the grid do.
template <typename First, typename Second>
class ChainList {
 public:
  __device__ __forceinline__ ChainList(const ProductChain& chain, const TileRange& tiles)
      : first_(chain.first, tiles),
        second_(chain.second, chain.second.tile_range != nullptr ? tiles : TileRange{}) {}

  __device__ __forceinline__ std::int32_t count() const { return first_.count() + second_.count(); }
  __device__ __forceinline__ bool is_second(std::int32_t index) const {
    return index >= first_.count();
  }
  __device__ __forceinline__ bool has_second() const { return second_.count() > 0; }
  __device__ __forceinline__ const PieceList<First>& first() const { return first_; }
  __device__ __forceinline__ const PieceList<Second>& second() const { return second_; }
  // Index of a piece in second().
  __device__ __forceinline__ std::int32_t in_second(std::int32_t index) const {
    return index - first_.count();
  }
  // Warps that count when they have stored their part of a tile's rows.
  __device__ __forceinline__ std::uint32_t writers_of_tile() const {
    return static_cast<std::uint32_t>(first_.per_tile() * kConsumerWarps);
  }
  // Pieces of the second product that read them.
  __device__ __forceinline__ std::uint32_t readers_of_tile() const {
    return static_cast<std::uint32_t>(second_.per_tile());
  }

  __device__ __forceinline__ const TileRange& tiles() const { return first_.tiles(); }

 private:
  PieceList<First> first_;
  PieceList<Second> second_;
};

// What the loader tells the math warps: pieces in the order in which it loads them, and, before the
// first, the tiles. It is ahead of the slowest warp by as many as the ring has stages, and one.
struct ChainSlots {
  static constexpr std::uint32_t kCount = 8;  // a power of two
  static_assert(kCount > Shape<64>::kStages + 1);
  std::uint64_t told[kCount];
  std::int32_t piece[kCount];
  TileRange tiles;

  __device__ __forceinline__ void init() {
    for (std::uint64_t& barrier : told) mbarrier_init(shared_address(&barrier), 1);
  }
  __device__ __forceinline__ void tell(std::uint32_t number, std::int32_t index) {
    piece[number % kCount] = index;
    mbarrier_arrive(shared_address(told + number % kCount));
  }
  // By a whole warp.
  __device__ __forceinline__ std::int32_t hear(std::uint32_t number) {
    mbarrier_wait(shared_address(told + number % kCount), number / kCount & 1U);
    // By the lane that releases stages, so that the slot is told again when it has been read.
    const std::int32_t index = threadIdx.x % 32 == 0 ? piece[number % kCount] : 0;
    return __shfl_sync(0xffffffffU, index, 0);
  }
};

constexpr std::int32_t kNoPiece = -1;

// One thread draws and loads a block's pieces.
template <typename First, typename Second>
class ChainLoader {
 public:
  __device__ __forceinline__ ChainLoader(const ProductChain& chain, Ring<64>& ring,
                                         ChainSlots& slots)
      : chain_(chain),
        first_ticket_(atomicAdd(chain.ticket, 1U)),  // on its way while the list is read
        list_(chain, read_tile_range(chain.first)),
        ring_(ring),
        slots_(slots) {}

  __device__ __forceinline__ void run() {
    slots_.tiles = list_.tiles();
    std::uint32_t number = 0;
    for (std::int32_t index = drawn(first_ticket_); index < list_.count();
         index = drawn(atomicAdd(chain_.ticket, 1U))) {
      slots_.tell(number++, index);
      if (list_.is_second(index)) {
        load_second(list_.in_second(index));
      } else {
        load_first(index);
      }
    }
    slots_.tell(number, kNoPiece);
    wait_once();
    if (!chain_.starts_next_early) let_next_kernel_start();
  }

 private:
  // The piece of a ticket. Each block draws once in vain; the last one of all clears the ticket for the
  // next launch.
  __device__ __forceinline__ std::int32_t drawn(std::uint32_t ticket) const {
    const auto index = static_cast<std::int32_t>(ticket);
    if (index == list_.count() + static_cast<std::int32_t>(gridDim.x) - 1) {
      *chain_.ticket = 0;
      __threadfence();
    }
    return index;
  }

  __device__ __forceinline__ void load_first(std::int32_t index) {
    const GemmItem item = list_.first().item(index);
    PieceLoad<First> load = begin<First>(chain_.first, item, list_.first().piece(index), acquired_first_);
    if (!has_waited_) load.load_weights_ahead(ring_);
    wait_once();
    load.load(ring_, [] {});
  }

  __device__ __forceinline__ void load_second(std::int32_t index) {
    const GemmItem item = list_.second().item(index);
    PieceLoad<Second> load = begin<Second>(chain_.second, item, list_.second().piece(index), acquired_second_);
    TileProgress& progress = chain_.progress[item.tile];
    if (!has_waited_ || !are_rows_there(progress)) {
      load.load_weights_ahead(ring_);
      wait_once();
      wait_for_rows(progress);
    }
    fence_proxy_async_global();
    load.load(ring_, [] {});
    leave(progress);
  }

  // Reads the plan from L2, since the kernel before may still run, see launch.cuh.
  template <typename V>
  __device__ __forceinline__ static PieceLoad<V> begin(const GroupedGemmParams& params,
                                                       const GemmItem& item, const Piece& piece,
                                                       const CUtensorMap*& acquired) {
    const Tile& tile = params.tiles[item.tile];
    return {params, item, __ldcg(&tile.expert), __ldcg(&tile.rows), acquired, piece};
  }

  // For the kernels before, once.
  __device__ __forceinline__ void wait_once() {
    if (has_waited_) return;
    wait_for_kernels_before();
    if (chain_.starts_next_early) let_next_kernel_start();
    has_waited_ = true;
  }
  __device__ __forceinline__ bool are_rows_there(const TileProgress& progress) const {
    return load_acquire_gpu(&progress.written) >= list_.writers_of_tile();
  }
  // They come, unless another call of the layer has begun meanwhile, which is a fault; then no other
  // tile's are waited for.
  __device__ __forceinline__ void wait_for_rows(const TileProgress& progress) {
    const unsigned long long begin = global_timer();
    while (!has_given_up_ && !are_rows_there(progress)) {
      __nanosleep(20);
      if (global_timer() - begin < chain_.timeout_ns) continue;
      has_given_up_ = true;
      if (chain_.abandoned != nullptr) *chain_.abandoned = 1;
    }
  }
  // The last reader clears the counts for the next launch: all others have seen them.
  __device__ __forceinline__ void leave(TileProgress& progress) const {
    if (atomicAdd(&progress.readers, 1U) + 1 == list_.readers_of_tile()) progress = {};
  }

  const ProductChain& chain_;
  const std::uint32_t first_ticket_;
  const ChainList<First, Second> list_;
  Ring<64>& ring_;
  ChainSlots& slots_;
  const CUtensorMap* acquired_first_ = nullptr;
  const CUtensorMap* acquired_second_ = nullptr;
  bool has_waited_ = false;
  bool has_given_up_ = false;
};

// The part of a warp that multiplies.
template <typename First, typename Second>
__device__ __forceinline__ void compute_chain(const ProductChain& chain, Ring<64>& ring,
                                              ChainSlots& slots) {
  std::int32_t index = slots.hear(0);
  const ChainList<First, Second> list(chain, slots.tiles);
  const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
  for (std::uint32_t number = 1; index != kNoPiece; index = slots.hear(number++)) {
    if (list.is_second(index)) {
      const std::int32_t at = list.in_second(index);
      compute_item<Second>(chain.second, list.second().item(at), ring, warpgroup,
                           list.second().piece(at));
      __syncwarp();
      continue;
    }
    const GemmItem item = list.first().item(index);
    compute_item<First>(chain.first, item, ring, warpgroup, list.first().piece(index));
    __syncwarp();
    if (list.has_second() && threadIdx.x % 32 == 0) {
      add_release_gpu(&chain.progress[item.tile].written, 1U);
    }
  }
}

// Registers of the loading warpgroup and of the multiplying ones: 64,512 in all, what a block of
// kThreads starts with. Two loads' state takes more than one's, tiles of 64 rows fewer sums.
constexpr int kChainLoaderRegisters = 56;
constexpr int kChainMathRegisters = 224;

// What a block has in shared memory.
constexpr int kChainBytes = Shape<64>::kRingBytes + static_cast<int>(sizeof(ChainSlots));
static_assert(Shape<64>::kRingBytes % alignof(ChainSlots) == 0);

template <typename First, typename Second>
__global__ void __launch_bounds__(kThreads, 1)
    product_chain_kernel(const __grid_constant__ ProductChain chain) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  Ring<64> ring(shared_address(shared), false);
  ChainSlots& slots = *reinterpret_cast<ChainSlots*>(shared + Shape<64>::kRingBytes);
  if (threadIdx.x == 0) {
    ring.init();
    slots.init();
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<kChainLoaderRegisters>();
    if (threadIdx.x == 0) ChainLoader<First, Second>(chain, ring, slots).run();
  } else {
    take_registers<kChainMathRegisters>();
    wait_for_kernels_before();
    if (chain.starts_next_early) let_next_kernel_start();
    compute_chain<First, Second>(chain, ring, slots);
  }
}

template <typename First, typename Second>
void launch_product_chain_of(const ProductChain& chain, int num_blocks, Follow follow,
                             cudaStream_t stream) {
  // Set before each launch: it belongs to a device, and costs less than a microsecond.
  check_cuda(cudaFuncSetAttribute(product_chain_kernel<First, Second>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kChainBytes),
             "asking for the products' shared memory");
  launch_clusters(1, product_chain_kernel<First, Second>, static_cast<unsigned>(num_blocks),
                  kThreads, kChainBytes, stream, follow, "launching products", chain);
}

template <bool GATED>
void launch_product_chain(const ProductChain& chain, DType dtype, int num_blocks, Follow follow,
                          cudaStream_t stream) {
  if (dtype == DType::f16) {
    launch_product_chain_of<Variant<GATED, __half, 64>, Variant<false, __half, 64>>(
        chain, num_blocks, follow, stream);
  } else {
    launch_product_chain_of<Variant<GATED, __nv_bfloat16, 64>, Variant<false, __nv_bfloat16, 64>>(
        chain, num_blocks, follow, stream);
  }
}

}  // namespace sm90
}  // namespace comet::cuda
