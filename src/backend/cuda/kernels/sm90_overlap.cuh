// SPDX-License-Identifier: Apache-2.0
// The fused kernel: persistent, one block per multiprocessor. A warp that loads and marks, three
// that gather, pull, push and sum, and two warpgroups that multiply, see docs/design.md. A role is a
// branch of one if/else from begin to end; whoever runs out of its work takes pushes and sums.
#pragma once

#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/overlap_combine.cuh"
#include "backend/cuda/kernels/overlap_copies.cuh"
#include "backend/cuda/kernels/sm90_gemm_tile.cuh"
#include "layout/item_walk.hpp"

namespace comet::cuda::overlap {

constexpr int kWarpgroup = 128;
constexpr int kThreads = 3 * kWarpgroup;

// Registers of the first warpgroup and of those that multiply: 136 + 2 * 184 of 512 a
// lane. None spills. A fourth warpgroup would leave a launch 128 a thread, and wgmma of 256 columns
// wants 154 (ptxas C7602).
constexpr int kServiceRegisters = 136;
constexpr int kMathRegisters = 184;

constexpr int kLoaderWarp = 0;
constexpr int kPullerWarp = 1;
constexpr int kFirstMathWarp = kPullerWarp + kCopyWarps;
constexpr int kCombinerWarps = kThreads / kLanes - 1;  // all but the loader

// What the loader tells the math warps.
struct Work {
  enum class Kind : std::int32_t { first, second, finish };
  Kind kind;
  std::int32_t tile;
  std::int32_t column;
  // Of a pair of blocks: the other computes it, too, and counts it.
  bool is_copy;
};

// What the loader of a pair's first block tells that of the second.
struct Order {
  Work work;
  bool shares_weights;  // with the first block's
};

constexpr int kMathBarrier = 1;  // of all math warps; 0 is __syncthreads
constexpr int kWorkSlots = 4;    // a power of two
// More than the pair's first block can be ahead of the second: both have the same ring, so by as many steps as
// it has stages, of which an item has one at least. A power of two.
constexpr int kOrderSlots = 8;

template <int BLOCK_M>
struct Shared {
  static constexpr std::int32_t kPullBytes = BLOCK_M == 64 ? 8192 : 16384;
  alignas(
      1024) std::uint8_t ring[sm90::Shape<BLOCK_M>::kRingBytes];  // then of the math warps' sums
  alignas(128) std::uint8_t pulls[kPullBytes];                    // then of the puller's sums
  alignas(128) std::uint8_t sums[kCopyWarps - 1][SumBuffers::kBytes];
  std::uint64_t pull_barriers[kCopyWarps][Puller::kMostBuffers];
  std::uint64_t work_full[kWorkSlots];    // the loader has written it
  std::uint64_t work_stored[kWorkSlots];  // the math warps have stored its results
  Work work[kWorkSlots];
  std::uint64_t order_full[kOrderSlots];  // the other block has written it
  Order orders[kOrderSlots];
  bool is_abandoned;  // of a pair's first block: before the call came to this kernel
  unsigned long long told_ns[kWorkSlots];  // if the call is traced
  CombinerState combiners[kCombinerWarps];
};

template <int BLOCK_M>
__device__ __forceinline__ Shared<BLOCK_M>& shared_of_block() {
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];
  return *reinterpret_cast<Shared<BLOCK_M>*>(dynamic_shared);
}

// Volatile, so that the address is made again where it is used and no register holds it meanwhile.
template <int BLOCK_M>
__device__ __forceinline__ CombinerState& combiner_state() {
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return shared_of_block<BLOCK_M>().combiners[thread / kLanes - 1];
}

// Of a column tile of the second product.
__device__ __forceinline__ std::int32_t panel_of(const OverlapParams& p, std::int32_t column) {
  return p.call.panels.of(column * kGemmBlockN);
}

template <typename T, int BLOCK_M>
struct Types {
  using Gated = sm90::Variant<true, T, BLOCK_M>;
  using Plain = sm90::Variant<false, T, BLOCK_M>;
  using Ring = sm90::Ring<BLOCK_M>;
};

template <typename T, int BLOCK_M>
__device__ __forceinline__ sm90::ColumnTiles first_column_tiles(const OverlapParams& p) {
  using Of = Types<T, BLOCK_M>;
  return p.is_gated ? sm90::column_tiles<typename Of::Gated>(p.first)
                    : sm90::column_tiles<typename Of::Plain>(p.first);
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ ItemWalk walk_of_products(const OverlapParams& p) {
  const sm90::ColumnTiles first = first_column_tiles<T, BLOCK_M>(p);
  return {{.num_tiles = p.call.plan.counters->num_tiles,
           .phases = p.choice.phases,
           .first_columns = first.count,
           .first_wide = first.wide,
           .second_columns = static_cast<std::int32_t>(ceil_div(p.second.n, kGemmBlockN)),
           .num_blocks = static_cast<std::int32_t>(gridDim.x),
           .together = sm90::is_paired() ? 2 : 1},
          p.call.panels,
          kGemmBlockN};
}

// Places of the tiles whose own rows math warps, too, gather before they multiply: what products take
// up in the time that the other warps need for the next.
template <typename T, int BLOCK_M>
__device__ __forceinline__ std::int32_t tiles_to_begin_with(const OverlapParams& p) {
  constexpr std::int32_t kItemsOfBlock = 1;
  const auto blocks = static_cast<std::int32_t>(gridDim.x);
  const std::int32_t columns = max(first_column_tiles<T, BLOCK_M>(p).count, 1);  // of no experts 0
  const std::int32_t band = tiles_of_band(blocks);
  const std::int32_t wished = kItemsOfBlock * blocks / columns + 1;
  const std::int32_t whole_bands = (wished + band - 1) / band * band;
  return min(whole_bands, p.call.plan.counters->num_tiles);
}

// The loader's side of the ring of works: it also counts, in order, the works whose results the
// math warps have stored. Done by themselves that would cost them time.
template <int BLOCK_M>
class Works {
 public:
  __device__ __forceinline__ Works(const OverlapParams& p, Shared<BLOCK_M>& shared)
      : p_(p), shared_(shared) {}

  __device__ __forceinline__ void tell(const Work& work) {
    while (told_ - marked_ == kWorkSlots) mark_next();
    const int slot = told_ % kWorkSlots;
    shared_.work[slot] = work;
    shared_.told_ns[slot] = trace_begin(p_.call.trace);
    mbarrier_arrive(shared_address(shared_.work_full + slot));
    ++told_;
  }

  // Counts the next work if it is stored.
  __device__ __forceinline__ void mark() {
    if (told_ != marked_ && mbarrier_test(stored_barrier(), stored_parity())) count_next();
  }

  __device__ __forceinline__ void mark_all() {
    while (told_ != marked_) mark_next();
  }

 private:
  __device__ __forceinline__ std::uint32_t stored_barrier() const {
    return shared_address(shared_.work_stored + marked_ % kWorkSlots);
  }
  __device__ __forceinline__ std::uint32_t stored_parity() const {
    return marked_ / kWorkSlots & 1U;
  }
  __device__ __forceinline__ void mark_next() {
    mbarrier_wait(stored_barrier(), stored_parity());
    count_next();
  }
  __device__ __forceinline__ void count_next() {
    const Work work = shared_.work[marked_ % kWorkSlots];
    if (work.is_copy) {
      // The other block counts it.
    } else if (work.kind == Work::Kind::first) {
      add_release_gpu(p_.order.first_done + work.tile, 1U);
    } else {
      add_release_gpu(
          p_.order.second_done + work.tile * p_.num_panels + panel_of(p_, work.column), 1U);
    }
    trace(work);
    ++marked_;
  }

  // From when it was told, or the work before it was stored, until now.
  __device__ __forceinline__ void trace(const Work& work) {
    if (p_.call.trace.records == nullptr) return;
    const unsigned long long told = shared_.told_ns[marked_ % kWorkSlots];
    const bool is_first = work.kind == Work::Kind::first;
    trace_end(p_.call.trace, told > stored_ns_ ? told : stored_ns_,
              is_first ? TraceKind::first_gemm : TraceKind::second_gemm,
              static_cast<std::int32_t>(blockIdx.x), work.tile,
              is_first ? work.column : panel_of(p_, work.column));
    stored_ns_ = global_timer();
  }

  const OverlapParams& p_;
  Shared<BLOCK_M>& shared_;
  unsigned long long stored_ns_ = 0;
  std::uint32_t told_ = 0;
  std::uint32_t marked_ = 0;
};

// Waits for a count of this rank's own warps, and makes what they wrote visible to TMA. One thread;
// false if the world has failed, or nothing came for the world's time limit.
template <int BLOCK_M>
__device__ __forceinline__ bool wait_for_count(const OverlapParams& p, Works<BLOCK_M>& works,
                                               const std::uint32_t* word, std::uint32_t wanted,
                                               Stage stage) {
  constexpr unsigned kLongestNap = 512;  // ns
  constexpr int kNapsPerLook = 64;
  if (load_acquire_gpu(word) < wanted) {
    const DeviceWorld& world = p.call.world;
    const bool is_starved = stage == Stage::dispatch_gemm;
    if (is_starved) atomicAdd(&p.order.tickets->starved, 1U);
    const unsigned long long begin = global_timer();
    unsigned nap = 32;
    for (int naps = 1; load_relaxed_gpu(word) < wanted; ++naps) {
      works.mark();  // it may be what the others wait for
      __nanosleep(nap);
      if (nap < kLongestNap) nap *= 2;
      if (naps % kNapsPerLook != 0) continue;
      if (look_out(world).has_failed) return false;
      if (global_timer() - begin >= world.timeout_ns) {
        report_expiry(world, {.stage = stage, .epoch = p.call.state->epoch, .source = world.rank},
                      load_relaxed_gpu(word));
        return false;
      }
    }
    load_acquire_gpu(word);
    if (is_starved) atomicSub(&p.order.tickets->starved, 1U);
    trace_end(p.call.trace, begin, TraceKind::wait, static_cast<std::int32_t>(blockIdx.x));
  }
  fence_proxy_async_global();
  return true;
}

// Dedicated blocks copy before they compute: until all pulls are taken; and for good once the
// second product has begun. True: take a ticket.
__device__ __forceinline__ bool may_compute(const OverlapParams& p, const ItemWalk& walk) {
  if (!p.choice.is_dedicated) return true;
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  if (block < p.order.roles->pullers) {
    while (has_pulls_left(p)) __nanosleep(500);
  }
  return block >= p.order.roles->pushers ||
         load_relaxed_gpu(&p.order.tickets->compute) < walk.first_of_second();
}

// Loads items for the math warps, and tells them. One thread.
template <typename T, int BLOCK_M>
class Loader {
 public:
  __device__ __forceinline__ Loader(const OverlapParams& p, Shared<BLOCK_M>& shared)
      : p_(p),
        ring_(shared_address(shared.ring), sm90::is_paired()),
        works_(p, shared),
        first_columns_(first_column_tiles<T, BLOCK_M>(p).count) {}

  __device__ __forceinline__ Works<BLOCK_M>& works() { return works_; }

  __device__ __forceinline__ Work work_of(const ProductItem& item) const {
    return {item.is_second ? Work::Kind::second : Work::Kind::first,
            p_.order.tile_order[item.place], item.column, item.is_copy};
  }

  // Waits for what the work reads; false if that failed.
  __device__ __forceinline__ bool wait_for(const Work& work) {
    const bool is_first = work.kind == Work::Kind::first;
    const std::uint32_t* word = (is_first ? p_.order.arrived : p_.order.first_done) + work.tile;
    const auto wanted =
        static_cast<std::uint32_t>(is_first ? p_.call.plan.tiles[work.tile].rows : first_columns_);
    return wait_for_count(p_, works_, word, wanted,
                          is_first ? Stage::dispatch_gemm : Stage::gemm_combine);
  }

  __device__ __forceinline__ void load(const Work& work, bool shares_weights) {
    works_.tell(work);
    const GemmItem item{work.tile, work.column};
    const auto mark = [&] { works_.mark(); };
    if (work.kind == Work::Kind::second) {
      sm90::load_item<Plain>(p_.second, item, ring_, second_acquired_, mark, {}, shares_weights);
    } else if (p_.is_gated) {
      sm90::load_item<Gated>(p_.first, item, ring_, first_acquired_, mark, {}, shares_weights);
    } else {
      sm90::load_item<Plain>(p_.first, item, ring_, first_acquired_, mark, {}, shares_weights);
    }
  }

  __device__ __forceinline__ void finish() {
    works_.mark_all();
    works_.tell({Work::Kind::finish, 0, 0, false});
  }

 private:
  using Gated = typename Types<T, BLOCK_M>::Gated;
  using Plain = typename Types<T, BLOCK_M>::Plain;

  const OverlapParams& p_;
  sm90::Ring<BLOCK_M> ring_;
  Works<BLOCK_M> works_;
  std::int32_t first_columns_;
  std::int32_t first_acquired_ = -1;
  std::int32_t second_acquired_ = -1;
};

// Orders for the other block of the pair. One thread of the first.
template <int BLOCK_M>
class Orders {
 public:
  __device__ __forceinline__ explicit Orders(Shared<BLOCK_M>& shared)
      : orders_(address_in_cluster(shared_address(shared.orders), 1)),
        full_(address_in_cluster(shared_address(shared.order_full), 1)) {}

  __device__ __forceinline__ void give(const Order& order) {
    constexpr std::uint32_t kWords = sizeof(Order) / sizeof(std::uint32_t);
    const std::uint32_t slot = given_++ % kOrderSlots;
    std::uint32_t words[kWords];
    memcpy(words, &order, sizeof(order));
#pragma unroll
    for (std::uint32_t i = 0; i < kWords; ++i) {
      store_in_cluster(orders_ + slot * sizeof(Order) + i * 4, words[i]);
    }
    mbarrier_release_in_cluster(full_ + slot * 8);
  }

 private:
  std::uint32_t orders_;
  std::uint32_t full_;
  std::uint32_t given_ = 0;
};

// Takes tickets, of a pair for both blocks.
template <typename T, int BLOCK_M>
__device__ __forceinline__ void load_all(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  const bool paired = sm90::is_paired();
  ItemWalk walk = walk_of_products<T, BLOCK_M>(p);
  Loader<T, BLOCK_M> loader(p, shared);
  Orders<BLOCK_M> orders(shared);
  ProductItem next;
  while (may_compute(p, walk)) {
    const std::uint32_t ticket = atomicAdd(&p.order.tickets->compute, paired ? 2U : 1U);
    if (!walk.find(ticket, next)) break;
    const Work work = loader.work_of(next);
    bool shares_weights = false;
    Order order{};
    if (paired) {
      walk.find(ticket + 1, next);
      order.work = loader.work_of(next);
      shares_weights = sm90::shares_weights(p.first, {work.tile, work.column},
                                            {order.work.tile, order.work.column});
      order.shares_weights = shares_weights;
    }
    if (!loader.wait_for(work) || (paired && !loader.wait_for(order.work))) {
      p.call.state->abandoned = 1;
      break;
    }
    if (paired) orders.give(order);
    loader.load(work, shares_weights);
  }
  if (paired) orders.give({{Work::Kind::finish, 0, 0, false}, false});
  loader.finish();
}

// Does what the pair's first block orders.
template <typename T, int BLOCK_M>
__device__ __forceinline__ void load_ordered(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  Loader<T, BLOCK_M> loader(p, shared);
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % kOrderSlots;
    const std::uint32_t full = shared_address(shared.order_full + slot);
    const std::uint32_t parity = count / kOrderSlots & 1U;
    while (!mbarrier_test(full, parity)) {
      loader.works().mark();  // it may be what the first block waits for
      __nanosleep(20);
    }
    mbarrier_test_in_cluster(full, parity);  // acquires what the first block has released, and acquired
    const Order order = shared.orders[slot];
    if (order.work.kind == Work::Kind::finish) break;
    fence_proxy_async_global();  // what the first block has acquired
    loader.load(order.work, order.shares_weights);
  }
  loader.finish();
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ void multiply_all(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  using Of = Types<T, BLOCK_M>;
  typename Of::Ring ring(shared_address(shared.ring), sm90::is_paired());
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % kWorkSlots;
    mbarrier_wait(shared_address(shared.work_full + slot), count / kWorkSlots & 1U);
    const Work work = shared.work[slot];
    if (work.kind == Work::Kind::finish) return;
    const GemmItem item{work.tile, work.column};
    if (work.kind == Work::Kind::first && p.is_gated) {
      sm90::compute_item<typename Of::Gated>(p.first, item, ring, warpgroup);
    } else {
      const GroupedGemmParams& product = work.kind == Work::Kind::first ? p.first : p.second;
      sm90::compute_item<typename Of::Plain>(product, item, ring, warpgroup);
    }
    __syncwarp();
    if (lane_id() == 0) {
      mbarrier_arrive(shared_address(shared.work_stored + count % kWorkSlots));
    }
  }
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ void combine_all(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const std::uint8_t* bytes = warp == kPullerWarp ? shared.pulls
                              : warp < kFirstMathWarp
                                  ? shared.sums[warp - kPullerWarp - 1]
                                  : shared.ring + (warp - kFirstMathWarp) * SumBuffers::kBytes;
  const SumBuffers buffers{shared_address(bytes)};
  if (!Combiner<T, combiner_state<BLOCK_M>>(p, buffers).run()) p.call.state->abandoned = 1;
}

template <int BLOCK_M>
__device__ __forceinline__ void init_shared(Shared<BLOCK_M>& shared) {
  sm90::Ring<BLOCK_M>(shared_address(shared.ring), sm90::is_paired()).init();
  for (auto& barriers : shared.pull_barriers) {
    for (std::uint64_t& barrier : barriers) mbarrier_init(shared_address(&barrier), 1);
  }
  for (std::uint64_t& barrier : shared.order_full) mbarrier_init(shared_address(&barrier), 1);
  for (int i = 0; i < kWorkSlots; ++i) {
    mbarrier_init(shared_address(shared.work_full + i), 1);
    mbarrier_init(shared_address(shared.work_stored + i), sm90::kConsumerWarps);
  }
  mbarrier_init_fence();
}

// Whether the block has work, once its shared memory, and that of the other block of its pair, is ready: whether
// the call was not abandoned before. A pair's blocks say alike, though a block may abandon the call meanwhile.
template <int BLOCK_M>
__device__ __forceinline__ bool begin_together(const Shared<BLOCK_M>& shared) {
  sm90::sync_pair();
  if (!sm90::is_paired()) return !shared.is_abandoned;
  return load_byte_in_cluster(address_in_cluster(shared_address(&shared.is_abandoned), 0)) == 0;
}

template <typename T, int BLOCK_M>
__device__ __forceinline__ void work_in_roles(const OverlapParams& p, Shared<BLOCK_M>& shared) {
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  if (warp < kFirstMathWarp) {
    give_registers<kServiceRegisters>();
    if (warp == kLoaderWarp) {
      if (lane_id() == 0) {
        if (sm90::is_paired() && rank_in_cluster() == 1) {
          load_ordered<T, BLOCK_M>(p, shared);
        } else {
          load_all<T, BLOCK_M>(p, shared);
        }
      }
      return;
    }
    if (warp != kPullerWarp) gather_own<BLOCK_M>(p, tiles_to_begin_with<T, BLOCK_M>(p), false);
    if (block < p.order.roles->pullers && warp < kPullerWarp + p.choice.pull_warps) {
      const bool is_first = warp == kPullerWarp;
      pull_all<BLOCK_M>(
          p, shared_address(is_first ? shared.pulls : shared.sums[warp - kPullerWarp - 1]),
          is_first ? Shared<BLOCK_M>::kPullBytes : SumBuffers::kBytes,
          shared_address(shared.pull_barriers[warp - kPullerWarp]));
    }
    if (block < p.order.roles->pushers) combine_all<T, BLOCK_M>(p, shared);
  } else {
    take_registers<kMathRegisters>();
    gather_own<BLOCK_M>(p, tiles_to_begin_with<T, BLOCK_M>(p), true);
    multiply_all<T, BLOCK_M>(p, shared);
    barrier_sync(kMathBarrier, kThreads - kWarpgroup);  // the ring is free
    combine_all<T, BLOCK_M>(p, shared);
  }
}

template <typename T, int BLOCK_M>
__global__ void __launch_bounds__(kThreads, 1)
    overlap_kernel(const __grid_constant__ OverlapParams p) {
  Shared<BLOCK_M>& shared = shared_of_block<BLOCK_M>();
  const CallParams& call = p.call;
  wait_for_kernels_before();
  if (threadIdx.x == 0) {
    init_shared(shared);
    shared.is_abandoned = call.state->abandoned != 0;
    if (blockIdx.x == 0 && !shared.is_abandoned) {
      call.state->times.planned_ns = global_timer();
      tell_progress(call.world, call.state->epoch, Stage::dispatch_gemm, -1);
    }
  }
  if (begin_together(shared)) {
    work_in_roles<T, BLOCK_M>(p, shared);
  }
  // Neither block of a pair ends before the other has read and told it the last time.
  if (sm90::is_paired()) sm90::sync_pair();
}

template <typename T, int BLOCK_M>
void launch_overlap(const OverlapParams& params, int num_blocks, Follow follow,
                    cudaStream_t stream) {
  constexpr int kBytes = sizeof(Shared<BLOCK_M>);
  static_assert(kBytes <= 232448, "what a block of Hopper may have");
  // Set before each launch: it belongs to a device, and costs less than a microsecond.
  check_cuda(cudaFuncSetAttribute(overlap_kernel<T, BLOCK_M>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
             "asking for the fused kernel's shared memory");
  const bool pairs = BLOCK_M == 128 && params.choice.in_pairs;
  launch_clusters(pairs ? 2 : 1, overlap_kernel<T, BLOCK_M>, static_cast<unsigned>(num_blocks),
                  kThreads, kBytes, stream, follow, "launching the fused kernel", params);
}

}  // namespace comet::cuda::overlap
