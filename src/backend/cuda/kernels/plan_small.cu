// SPDX-License-Identifier: Apache-2.0
// The plan of at most two blocks of 64 tokens, by one thread block: four kernels take longer to
// start than this one to run. What the other plan's steps hand on from block to block by prefix
// sums over many is here a choice between the first block and the second; the bytes are the same.
// Of a rank that is alone the same kernel begins the call.
#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/overlap_order.cuh"
#include "backend/cuda/kernels/plan_device.cuh"
#include "backend/cuda/kernels/plan_slots.cuh"
#include "backend/cuda/kernels/publish.cuh"

namespace comet::cuda {
namespace {

constexpr int kSmallThreads = 256;
constexpr int kMostSmallBlocks = 2;
constexpr int kBlockTokens = static_cast<int>(kTokenBlock);
constexpr int kMostSmallTokens = kMostSmallBlocks * kBlockTokens;
static_assert(kSmallThreads >= kMostSmallTokens);

// A block of 64 tokens, or fewer, of a source.
struct SmallBlock {
  std::int32_t step = 0;
  std::int32_t source = 0;
  std::int32_t block = 0;
  std::int32_t first_token = 0;
  std::int32_t tokens = 0;
};

// The blocks of a call in transfer order: up to two of the own rank, or one of each of two ranks.
class SmallBlocks {
 public:
  __device__ explicit SmallBlocks(const PlanProblem& problem) : problem_(problem) {
    own_tokens_ = problem.tokens[problem.rank];
    if (problem.world > 1) other_tokens_ = problem.tokens[source_at_step(problem, 1)];
  }

  __device__ std::int32_t own() const {
    return static_cast<std::int32_t>(num_token_blocks(own_tokens_));
  }
  __device__ std::int32_t count() const { return own() + (other_tokens_ > 0 ? 1 : 0); }
  __device__ std::int32_t own_tokens() const { return own_tokens_; }

  // Without tokens if there is none at `index`.
  __device__ SmallBlock at(std::int32_t index) const {
    if (index >= count()) return {};
    const bool is_own = index < own();
    const std::int32_t step = is_own ? 0 : 1;
    const std::int32_t block = is_own ? index : 0;
    const TokenRange range = block_tokens(is_own ? own_tokens_ : other_tokens_, block);
    return {step, source_at_step(problem_, step), block, range.begin, range.end - range.begin};
  }

 private:
  const PlanProblem& problem_;
  std::int32_t own_tokens_ = 0;
  std::int32_t other_tokens_ = 0;
};

// In shared memory. Token i of block b is `token` b * 64 + i, whose choices are at token * topk.
struct SmallShared {
  DevicePlanCounters counters;
  std::uint32_t owners[kMostSmallTokens];  // EP ranks of each own token: there are two at most
  std::uint32_t block_owners[kMostSmallBlocks];  // of each own block
  std::int32_t token_rows[kMostSmallTokens];     // first of each token's in view.rows
  std::int32_t needed_of_first;  // tokens that are needed of the first block, if there are two
  std::int32_t* block_rows;      // [blocks, num_local]
  std::int32_t* next_row;        // [num_local]
  std::int32_t* slots;           // [tokens, topk] row slots of choices
  std::int16_t* local;           // [tokens, topk] local experts of choices, or -1
};

constexpr std::size_t small_shared_bytes(std::int64_t num_local, std::int64_t topk) {
  return static_cast<std::size_t>(
      (kMostSmallBlocks + 1) * num_local * std::int64_t{sizeof(std::int32_t)} +
      kMostSmallTokens * topk * std::int64_t{sizeof(std::int32_t) + sizeof(std::int16_t)});
}

// Before anything is counted.
__device__ void clear(const PlanProblem& problem, SmallShared& shared, std::int32_t* words) {
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  if (thread == 0) {
    shared.block_rows = words;
    shared.next_row = words + kMostSmallBlocks * problem.num_local;
    shared.slots = shared.next_row + problem.num_local;
    shared.local = reinterpret_cast<std::int16_t*>(shared.slots + kMostSmallTokens * problem.topk);
  }
  if (thread < kMostSmallTokens) shared.owners[thread] = 0;
  if (thread < kMostSmallBlocks) shared.block_owners[thread] = 0;
#pragma unroll 1
  for (std::int32_t i = thread; i < kMostSmallBlocks * problem.num_local; i += kSmallThreads) {
    words[i] = 0;
  }
}

// Reads the choices of block `index`, and counts rows of experts and owners of own tokens. Of a
// block before another all 64 tokens have choices, since the next one's follow.
__device__ void read_choices(const PlanProblem& problem, const SmallBlock& block,
                             std::int32_t index, bool is_last, SmallShared& shared) {
  constexpr int kBatch = 2;  // of loads on their way at once, each of which takes long
  const std::uint16_t* ids =
      problem.ids[block.source] + std::int64_t{block.first_token} * problem.topk;
  const std::int32_t there = block.tokens * problem.topk;
  const std::int32_t count = is_last ? there : kBlockTokens * problem.topk;
  const std::int32_t ep_rank = problem.rank / problem.tp;
#pragma unroll 1
  for (auto first = static_cast<std::int32_t>(threadIdx.x); first < count;
       first += kBatch * kSmallThreads) {
    std::int32_t id[kBatch];
    std::int32_t owner[kBatch];
    std::int32_t expert[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int32_t i = first + j * kSmallThreads;
      id[j] = i < there ? ids[i] : kDroppedId;
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (id[j] == kDroppedId) continue;
      owner[j] = problem.ep_rank_of[id[j]];
      expert[j] = problem.local_of[id[j]];
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int32_t i = first + j * kSmallThreads;
      if (i >= count) break;
      const bool is_dropped = id[j] == kDroppedId;
      const bool is_local = !is_dropped && owner[j] == ep_rank;
      if (!is_dropped && block.step == 0) {
        atomicOr(shared.owners + index * kBlockTokens + i / problem.topk, 1U << owner[j]);
      }
      if (is_local) atomicAdd(shared.block_rows + index * problem.num_local + expert[j], 1);
      shared.local[index * kBlockTokens * problem.topk + i] =
          static_cast<std::int16_t>(is_local ? expert[j] : -1);
    }
  }
}

// Rows of an expert, of the first block and of both, and the tiles that they touch and complete.
struct ExpertTiles {
  std::int32_t first;
  std::int32_t rows;
  std::int32_t tiles;
  std::int32_t full_of_first;  // tiles that the first block fills

  __device__ ExpertTiles(const PlanProblem& problem, const SmallShared& shared, std::int32_t expert)
      : first(shared.block_rows[expert]),
        rows(first + shared.block_rows[problem.num_local + expert]),
        tiles(rows / problem.block_m + (rows % problem.block_m != 0 ? 1 : 0)),
        full_of_first(first / problem.block_m) {}

  __device__ std::int32_t touched_by_first(std::int32_t block_m) const {
    return full_of_first + (first > full_of_first * block_m ? 1 : 0);
  }
  __device__ std::int32_t done_by_first() const { return first == rows ? tiles : full_of_first; }
  __device__ std::int32_t touched_by_second() const {
    return rows > first ? tiles - full_of_first : 0;
  }
};

// Tiles of all experts, of which thread i has a range: {tiles, touched by the first block and by
// the second, done by the first}, of which the second does the rest.
__device__ Sums<4> lay_out_tiles(const PlanProblem& problem, const DevicePlanView& view,
                                 const SmallBlocks& blocks, std::int32_t second_entry,
                                 const SmallShared& shared) {
  const std::int32_t each = (problem.num_local + kSmallThreads - 1) / kSmallThreads;
  const std::int32_t begin = static_cast<std::int32_t>(threadIdx.x) * each;
  const std::int32_t end = min(begin + each, problem.num_local);
  Sums<4> mine{};
#pragma unroll 1
  for (std::int32_t expert = begin; expert < end; ++expert) {
    const ExpertTiles of(problem, shared, expert);
    mine = mine + Sums<4>{{of.tiles, of.touched_by_first(problem.block_m), of.touched_by_second(),
                           of.done_by_first()}};
  }
  Sums<4> total;
  Sums<4> at = block_exclusive<kSmallThreads>(mine, total);
  const std::int32_t second_step = blocks.own() > 1 ? 0 : 1;
  const std::int32_t first_step = blocks.own() > 0 ? 0 : 1;
#pragma unroll 1
  for (std::int32_t expert = begin; expert < end; ++expert) {
    const ExpertTiles of(problem, shared, expert);
    const std::int32_t tile = at.v[0];
    view.expert_rows[expert] = of.rows;
    view.segment_tile[expert] = tile;
    shared.next_row[expert] = tile * problem.block_m;
    std::int32_t* const of_first = view.block_tiles + at.v[1];
    std::int32_t* const of_second = view.block_tiles + total.v[1] + at.v[2];
    std::int32_t* const walk_first = view.walk + at.v[3];
    std::int32_t* const walk_second = view.walk + total.v[3] + at.v[0] - at.v[3];
    const std::int32_t touched = of.touched_by_first(problem.block_m);
    const std::int32_t done = of.done_by_first();
#pragma unroll 1
    for (std::int32_t t = 0; t < of.tiles; ++t) {
      const bool is_second = t >= done;
      view.tiles[tile + t] = {0, expert, min(problem.block_m, of.rows - t * problem.block_m),
                              is_second ? second_step : first_step, is_second ? second_entry : 0};
      if (is_second) {
        walk_second[t - done] = tile + t;
      } else {
        walk_first[t] = tile + t;
      }
      if (t < touched) of_first[t] = tile + t;
      if (t >= of.full_of_first && of.rows > of.first) of_second[t - of.full_of_first] = tile + t;
    }
    at = at + Sums<4>{{of.tiles, touched, of.touched_by_second(), done}};
  }
  return total;
}

// Ranks of a set of EP ranks, ascending, to `to`; returns how many.
__device__ std::int32_t list_ranks(std::uint32_t ep_ranks, std::int32_t tp, std::int32_t* to) {
  std::int32_t count = 0;
#pragma unroll 1
  for (; ep_ranks != 0; ep_ranks &= ep_ranks - 1) {
    const std::int32_t first = (__ffs(static_cast<int>(ep_ranks)) - 1) * tp;
#pragma unroll 1
    for (std::int32_t j = 0; j < tp; ++j) to[count++] = first + j;
  }
  return count;
}

// What there is once in a plan: by one thread. `tokens`: {needed, rows, sources} of all, `tiles`:
// see lay_out_tiles.
__device__ void write_totals(const PlanProblem& problem, const DevicePlanView& view,
                             const SmallBlocks& blocks, const Sums<3>& tokens, const Sums<4>& tiles,
                             SmallShared& shared) {
  const std::int32_t needed_of_first = blocks.count() > 1 ? shared.needed_of_first : tokens.v[0];
  const std::int32_t needed_of_own = blocks.own() == 0               ? 0
                                     : blocks.own() < blocks.count() ? needed_of_first
                                                                     : tokens.v[0];
  std::int32_t entry = 0;
#pragma unroll 1
  for (std::int32_t index = 0; index < blocks.count(); ++index) {
    const SmallBlock block = blocks.at(index);
    const bool is_second = index > 0;
    const std::int32_t needed_begin = is_second ? needed_of_first : 0;
    const std::int32_t needed_end = is_second ? tokens.v[0] : needed_of_first;
    if (needed_begin == needed_end) continue;
    view.blocks[entry++] = {0,
                            block.source,
                            block.block,
                            needed_begin,
                            needed_end,
                            is_second ? tiles.v[1] : 0,
                            tiles.v[1] + (is_second ? tiles.v[2] : 0)};
  }
  std::int32_t block_sources = 0;
#pragma unroll 1
  for (std::int32_t block = 0; block < blocks.own(); ++block) {
    view.block_sources_begin[block] = block_sources;
    block_sources +=
        list_ranks(shared.block_owners[block], problem.tp, view.block_sources + block_sources);
  }
  view.block_sources_begin[blocks.own()] = block_sources;
  view.token_sources_begin[blocks.own_tokens()] = tokens.v[2];
  view.needed[tokens.v[0]] = {0, tokens.v[1]};
  view.group_tiles[0] = 0;
  view.group_tiles[1] = tiles.v[0];
  view.group_blocks[0] = 0;
  view.group_blocks[1] = entry;
  shared.counters = {.num_tiles = tiles.v[0],
                     .num_rows = tokens.v[1],
                     .num_needed = tokens.v[0],
                     .num_blocks = entry,
                     .num_block_tiles = tiles.v[1] + tiles.v[2],
                     .num_token_sources = tokens.v[2],
                     .num_block_sources = block_sources,
                     .tokens_in = tokens.v[0] - needed_of_own,
                     .tokens_out = tokens.v[2] - needed_of_own,
                     .num_all_blocks = blocks.count()};
  *view.counters = shared.counters;
}

// One group, by one block, after clear and a barrier.
__device__ __forceinline__ void make_small_plan(const PlanProblem& problem,
                                                const DevicePlanView& view,
                                                const OrderProblem& wanted, SmallShared& shared) {
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  const SmallBlocks blocks(problem);
#pragma unroll 1
  for (std::int32_t index = 0; index < blocks.count(); ++index) {
    read_choices(problem, blocks.at(index), index, index + 1 == blocks.count(), shared);
  }
  __syncthreads();

  // Thread i has token i.
  const std::int32_t index = thread / kBlockTokens;
  const SmallBlock block = blocks.at(index);
  const std::int32_t in_block = thread % kBlockTokens;
  const bool is_there = in_block < block.tokens;
  const std::int16_t* const local = shared.local + thread * problem.topk;
  const std::uint32_t owners = is_there && block.step == 0 ? shared.owners[thread] : 0;
  std::int32_t num_rows = 0;
#pragma unroll 1
  for (std::int32_t k = 0; is_there && k < problem.topk; ++k) num_rows += local[k] >= 0 ? 1 : 0;
  if (owners != 0) atomicOr(shared.block_owners + index, owners);
  Sums<3> tokens;
  const Sums<3> before = block_exclusive<kSmallThreads>(
      Sums<3>{{num_rows > 0 ? 1 : 0, num_rows, __popc(owners) * problem.tp}}, tokens);
  if (thread == kBlockTokens) shared.needed_of_first = before.v[0];
  if (thread < kMostSmallTokens) shared.token_rows[thread] = before.v[1];
  const std::int32_t token = block.first_token + in_block;
  if (num_rows > 0) view.needed[before.v[0]] = {token, before.v[1]};
  if (is_there && block.step == 0) {
    view.token_sources_begin[token] = before.v[2];
    list_ranks(owners, problem.tp, view.token_sources + before.v[2]);
  }
  __syncthreads();

  const std::int32_t second_entry = shared.needed_of_first > 0 ? 1 : 0;
  const Sums<4> tiles = lay_out_tiles(problem, view, blocks, second_entry, shared);
  if (thread == 0) write_totals(problem, view, blocks, tokens, tiles, shared);
  __syncthreads();

  DevicePlanView near = view;
  near.counters = &shared.counters;
  const std::int32_t num_choices =
      blocks.count() == 0
          ? 0
          : ((blocks.count() - 1) * kBlockTokens + blocks.at(blocks.count() - 1).tokens) *
                problem.topk;
  constexpr int kLastWarp = kSmallThreads / kWarp - 1;
  if (thread / kWarp == kLastWarp) {
    assign_slots(num_choices, shared.local, shared.next_row, shared.slots);
  } else if (wanted.comes_with_plan()) {
    place_tiles_by_index(near, wanted, thread, kLastWarp * kWarp);
    clear_counts(near, wanted, thread, kLastWarp * kWarp);
  }
  if (wanted.comes_with_plan()) clear_lists<kSmallThreads>(wanted);
  __syncthreads();

  if (wanted.comes_with_plan()) {
#pragma unroll 1
    for (std::int32_t of = 0; of < blocks.count(); ++of) {
      const SmallBlock ordered = blocks.at(of);
      const std::int32_t needed_of_first =
          blocks.count() > 1 ? shared.needed_of_first : tokens.v[0];
      const std::int32_t needed = of == 0 ? needed_of_first : tokens.v[0] - needed_of_first;
      if (needed == 0) continue;
      order_block<kSmallThreads>(
          problem, near, wanted, ordered.source, ordered.block, needed, before.v[0],
          {token, static_cast<std::int16_t>(ordered.source),
           static_cast<std::int16_t>(index == of ? num_rows : 0), before.v[1], -1},
          local, shared.slots + thread * problem.topk);
    }
  }
#pragma unroll 1
  for (std::int32_t i = thread; i < num_choices; i += kSmallThreads) {
    const std::int32_t of_token = i / problem.topk;
    place_choice(problem, shared.local + of_token * problem.topk, i - of_token * problem.topk,
                 shared.slots[i], view.rows + shared.token_rows[of_token]);
  }
}

// The dynamic shared memory of both kernels is small_shared_bytes.
__global__ void __launch_bounds__(kSmallThreads, 1)
    small_plan_kernel(const __grid_constant__ PlanProblem problem,
                      const __grid_constant__ DevicePlanView view,
                      const __grid_constant__ OrderProblem wanted) {
  extern __shared__ std::int32_t dynamic_shared[];
  __shared__ SmallShared shared;
  clear(problem, shared, dynamic_shared);
  wait_for_kernels_before();
  let_next_kernel_start();
  __syncthreads();
  make_small_plan(problem, view, wanted, shared);
}

// Of a rank that is alone: publish, too, which its plan need not wait for in a kernel of its own.
__global__ void __launch_bounds__(kSmallThreads, 1)
    small_call_kernel(const __grid_constant__ CallParams p,
                      const __grid_constant__ FaultSentence sentence,
                      const __grid_constant__ PlanProblem problem,
                      const __grid_constant__ DevicePlanView view,
                      const __grid_constant__ OrderProblem wanted) {
  extern __shared__ std::int32_t dynamic_shared[];
  __shared__ SmallShared shared;
  let_next_kernel_start();
  const CallStart start = start_call(p);
  if (start.is_sound) write_routing(p, start);
  clear(problem, shared, dynamic_shared);
  __syncthreads();  // all choices are there, and what was wrong with them
  open_lone_call<kSmallThreads>(p, sentence, start);
  __syncthreads();
  make_small_plan(problem, view, wanted, shared);
}

constexpr std::size_t kMostSharedBytes = 44 << 10;  // without asking for more

bool is_small(const PlanProblem& problem, const PlanCapacity& capacity) {
  return problem.groups == 1 && capacity.blocks <= kMostSmallBlocks &&
         small_shared_bytes(problem.num_local, problem.topk) <= kMostSharedBytes;
}

}  // namespace

bool launch_small_plan(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, const OrderProblem& wanted,
                       cudaStream_t stream) {
  if (!is_small(problem, capacity)) return false;
  launch_kernel(small_plan_kernel, 1, kSmallThreads,
                small_shared_bytes(problem.num_local, problem.topk), stream, Follow::closely,
                "launching the plan", problem, view, wanted);
  return true;
}

bool launch_small_call(const CallParams& params, const FaultSentence& sentence,
                       const DevicePlanProblem& problem, const OrderProblem& wanted,
                       cudaStream_t stream) {
  const PlanCapacity capacity = check_plan_fits(problem, params.plan.limits);
  if (params.world.size > 1 || params.copies_x || !is_small(problem.problem, capacity)) {
    return false;
  }
  launch_after_all(small_call_kernel, 1, kSmallThreads,
                   small_shared_bytes(problem.problem.num_local, problem.problem.topk), stream,
                   "launching publish and plan", params, sentence, problem.problem, params.plan,
                   wanted);
  return true;
}

void preload_small_call() { preload(small_call_kernel); }

}  // namespace comet::cuda
