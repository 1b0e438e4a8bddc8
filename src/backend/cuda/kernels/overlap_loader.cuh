// SPDX-License-Identifier: Apache-2.0
// The fused kernel's loader, one thread of each block: takes tickets, waits for what their products read, loads it by
// TMA, and counts what the math warps have stored. Of a pair of blocks the first's loader takes tickets for both.
#pragma once

#include "backend/cuda/kernels/overlap_block.cuh"
#include "backend/cuda/kernels/sm90_load_tile.cuh"

namespace comet::cuda::overlap {

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
    // Of an abandoned call, whose warps have left them, some may be left for ever.
    while (has_pulls_left(p) && load_relaxed_gpu(&p.call.state->abandoned) == 0) __nanosleep(500);
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
      sm90::load_item<Plain>(p_.second, item, ring_, second_acquired_, mark, shares_weights);
    } else if (p_.is_gated) {
      sm90::load_item<Gated>(p_.first, item, ring_, first_acquired_, mark, shares_weights);
    } else {
      sm90::load_item<Plain>(p_.first, item, ring_, first_acquired_, mark, shares_weights);
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
  const CUtensorMap* first_acquired_ = nullptr;
  const CUtensorMap* second_acquired_ = nullptr;
};

// Orders for the other block of the pair, if there is one. One thread of the first.
template <int BLOCK_M>
class Orders {
 public:
  __device__ __forceinline__ Orders(Shared<BLOCK_M>& shared, bool paired)
      : orders_(paired ? address_in_cluster(shared_address(shared.orders), 1) : 0),
        full_(paired ? address_in_cluster(shared_address(shared.order_full), 1) : 0) {}

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
  Orders<BLOCK_M> orders(shared, paired);
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

}  // namespace comet::cuda::overlap
