// SPDX-License-Identifier: Apache-2.0
// How CudaEngine queues a call: publish, plan, and the kernels of its schedule.
#include <algorithm>
#include <cstring>

#include "backend/cuda/host/call_range.hpp"
#include "backend/cuda/host/engine.hpp"
#include "backend/cuda/host/overlap_choice.hpp"
#include "base/check.hpp"
#include "base/int_math.hpp"
#include "layout/band_walk.hpp"

namespace comet::cuda {
namespace {

// Blocks that publish, and those that copy tokens beside the plan: enough to saturate a partition's
// share of the memory, the latter with room for the plan's.
constexpr int kPublishBlocksPerSm = 4;
constexpr int kCopyBlocksPerSm = 2;
constexpr std::int64_t kPublishTokensPerBlock = 8;     // a warp each; few tokens need few blocks
constexpr std::int64_t kPublishChoicesPerBlock = 512;  // two a thread

// Bytes of x from which its copy beside the plan saves more than a kernel and two orders of streams
// cost.
constexpr std::int64_t kBytesBesidePlan = 1 << 20;

constexpr std::int64_t kLoadBytes = 16;  // that a lane loads of a row

bool is_aligned_for_loads(const std::byte* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kLoadBytes == 0;
}

FaultSentence make_sentence(const std::optional<HostFault>& fault) {
  FaultSentence sentence{};
  if (fault) {
    std::memcpy(sentence.text, fault->sentence.data(),
                std::min(fault->sentence.size(), sizeof(sentence.text) - 1));
  }
  return sentence;
}

}  // namespace

CallParams CudaEngine::make_call_params(const QueuedCall& call) {
  CallParams params;
  params.world = device_.world();
  params.dims = dims_;
  params.config = call.config;
  if (call.schedule == Schedule::comet) params.config.groups = 1;  // it cuts tiles, not tokens
  const std::int64_t own_tokens = call.fault ? 0 : call.routing.tokens;
  // One rank alone has no transfers that should be long, but multiprocessors to copy its tokens.
  if (dims_.world == 1) {
    params.config.chunk =
        std::clamp<std::int64_t>(ceil_div(own_tokens, multiprocessors_), 1, params.config.chunk);
  }
  params.panels = cut_panels(dims_, params.config);
  params.layout = call.layout;
  params.peers = device_peers(call.peers, static_cast<cudaStream_t>(call.stream));
  params.plan = plan_.view();
  params.state = state_.data();
  params.tickets = tickets_.data();
  params.progress = first_ != nullptr ? first_->progress() : nullptr;
  params.seen = seen_.data();
  params.report = report_;
  params.tokens = tokens_.data();
  params.ids = ids_.data();
  params.ids_stride = ids_stride_;
  params.config_hash = call.config_hash;
  if (call.fault) {
    params.host_fault = 1 + static_cast<std::int32_t>(call.fault->code);
  } else {
    params.x = static_cast<const std::byte*>(call.x.data);
    params.x_stride_bytes = call.x.row_stride * dims_.element_bytes;
    params.topk_ids = call.routing.ids;
    params.ids_are_64 = call.routing.id_type == IdType::i64;
    params.topk_weights = call.routing.weights;
    params.weight_type = call.routing.weight_type;
    params.device_tokens = call.routing.device_tokens;
    params.max_call_tokens = static_cast<std::int32_t>(call.routing.tokens);
  }
  const bool is_aligned = is_aligned_for_loads(params.x) && params.x_stride_bytes % kLoadBytes == 0;
  params.own_x = is_aligned ? params.x : call.peers[dims_.rank] + call.layout.x;
  params.own_x_stride_bytes = is_aligned ? params.x_stride_bytes : dims_.row_bytes();
  params.copies_x = dims_.world > 1 || !is_aligned;
  // By the most tokens, not by this call's, since all ranks do alike, so that they wait for each
  // other; one rank alone need not.
  params.copies_beside_plan =
      params.copies_x &&
      (dims_.world > 1 ? dims_.max_tokens : own_tokens) * dims_.row_bytes() > kBytesBesidePlan;
  if (call.y.data != nullptr) {
    params.y = static_cast<std::byte*>(call.y.data);
    params.y_stride_bytes = call.y.row_stride * dims_.element_bytes;
    params.y_rows = static_cast<std::int32_t>(call.y.rows);
  }
  params.rows = rows_.data();
  params.row_weights = row_weights_.data();
  params.out = out_.data();
  params.weights_after_down = desc_.weight_position == WeightPosition::after_down;
  return params;
}

PlanProblem CudaEngine::plan_problem(const CallParams& params) const {
  return {.world = dims_.world,
          .rank = dims_.rank,
          .tp = dims_.tp,
          .topk = dims_.topk,
          .num_local = dims_.num_local,
          .block_m = static_cast<std::int32_t>(dims_.block_m),
          .groups = params.config.groups,
          .ep_rank_of = ep_rank_of_.data(),
          .local_of = local_of_.data(),
          .tokens = tokens_.data(),
          .ids = id_pointers_.data()};
}

// Of the fused schedule.
OrderProblem CudaEngine::order_problem(const CallParams& params, const QueuedCall& call) const {
  OrderProblem wanted{.order = order_.view(),
                      .choice = choose_overlap(dims_, call.config),
                      .costs = {},
                      .num_panels = params.panels.count(),
                      .num_blocks = multiprocessors_};
  wanted.choice.n_c_dispatch = call.n_c_dispatch;
  wanted.choice.n_c_combine = call.n_c_combine;
  wanted.choice.is_dedicated = call.placement == Placement::blocks;
  wanted.choice.follows_counts = call.follows_counts;
  // Blocks of their own for communication may be an odd number.
  wanted.choice.in_pairs = wanted.choice.in_pairs && has_pairs_ && !wanted.choice.is_dedicated;
  wanted.choice.first_tiles = tiles_to_begin_with();
  wanted.choice.slots_per_first_pull = slots_per_first_pull(wanted.choice);
  const DeviceWorld& world = params.world;
  const bool is_slow = world.host_link || world.is_remote != nullptr;
  if (call.waves > 0) {
    wanted.choice.waves = static_cast<std::int32_t>(call.waves);
    wanted.choice.has_waves_if_slow = false;
  } else if (!is_slow && !world_.link->paced()) {
    wanted.choice.waves = 1;  // what the device would take; and then the order comes with the plan
  }
  const std::int64_t products = desc_.gated ? 3 : 2;
  const UniformCounts uniform = uniform_counts(dims_);
  wanted.costs = {
      .operations_per_row = 2.0 * static_cast<double>(products * dims_.hidden * dims_.inter_local),
      .bytes_per_token = static_cast<double>(dims_.row_bytes()),
      .uniform_pulls_per_row = uniform.pulls_per_row,
      .uniform_pushes_per_row = uniform.pushes_per_row,
      .ns_per_byte = is_slow ? nullptr : world.ns_per_byte};
  return wanted;
}

// Whole bands of tiles that give each multiprocessor an item of the first product.
std::int32_t CudaEngine::tiles_to_begin_with() const {
  const std::int64_t columns = ceil_div(dims_.inter_local, kGemmBlockN / (desc_.gated ? 2 : 1));
  const std::int64_t tiles =
      multiprocessors_ / std::max<std::int64_t>(columns, 1) + 1;  // of no experts 0
  return static_cast<std::int32_t>(round_up(tiles, tiles_of_band(multiprocessors_)));
}

// Small, so that the first tiles' rows are there together and soon; but a pull takes a warp some
// microseconds, so there are a few for each block that pulls. Of dedicated blocks few do, and their
// pulls are of the usual size.
std::int32_t CudaEngine::slots_per_first_pull(const OverlapChoice& choice) const {
  constexpr std::int64_t kPullsPerBlock = 4;
  if (choice.is_dedicated) return choice.slots_per_pull;
  const std::int64_t pullers =
      choice.n_c_dispatch > 0 ? std::min(choice.n_c_dispatch, multiprocessors_) : multiprocessors_;
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(
      choice.first_tiles * dims_.block_m / (kPullsPerBlock * pullers), 1, choice.slots_per_pull));
}

// One rank alone knows how many tokens there can be; of others each may have as many as it has room
// for.
DevicePlanProblem CudaEngine::device_plan_problem(const CallParams& params) const {
  const auto most = static_cast<std::int32_t>(dims_.max_tokens);
  return {.problem = plan_problem(params),
          .max_tokens = dims_.world == 1 ? std::min(params.max_call_tokens, most) : most};
}

void CudaEngine::queue_plan(const CallParams& params, const OrderProblem& wanted,
                            cudaStream_t stream) const {
  launch_build_plan(device_plan_problem(params), plan_.view(), wanted, stream);
}

// Publish, headers of others, the check of max_rows, and the plan.
void CudaEngine::queue_start(const CallParams& params, const QueuedCall& call,
                             const OrderProblem& wanted, cudaStream_t stream) {
  const bool is_checked = max_rows_ > 0;
  if (!is_checked && launch_small_call(params, make_sentence(call.fault),
                                       device_plan_problem(params), wanted, stream)) {
    return;
  }
  queue_publish(params, call, stream);
  if (dims_.world > 1) launch_read_headers(params, stream);
  if (is_checked) {
    launch_check_capacity(params,
                          {.ep_rank_of = ep_rank_of_.data(),
                           .counts = capacity_counts_.data(),
                           .totals = capacity_totals_.data(),
                           .max_rows = max_rows_},
                          stream);
  }
  queue_plan(params, wanted, stream);
}

void CudaEngine::queue_products(const std::int32_t* tile_range, std::uint32_t* ticket,
                                int num_blocks, Follow follow, cudaStream_t stream) const {
  const GemmGrid grid{num_blocks, has_pairs_ && num_blocks == multiprocessors_};
  if (first_ == nullptr) return;
  const DevicePlanView& plan = plan_.view();
  const bool before_down = desc_.weight_position == WeightPosition::before_down;
  first_->launch_with(*second_, plan.tiles, tile_range, before_down ? row_weights_.data() : nullptr,
                      {.ticket = ticket,
                       .abandoned = &state_.data()->abandoned,
                       .timeout_ns = device_.world().timeout_ns},
                      grid, follow, stream);
}

void CudaEngine::queue_combine(const CallParams& params, std::int32_t group, int num_blocks,
                               Follow follow, cudaStream_t stream) const {
  if (desc_.dtype == DType::f16) {
    launch_combine_f16(params, group, num_blocks, follow, stream);
  } else {
    launch_combine_bf16(params, group, num_blocks, follow, stream);
  }
}

void CudaEngine::queue(const QueuedCall& call) {
  const CallRange range(call);
  device_.make_current();
  const auto stream = static_cast<cudaStream_t>(call.stream);
  has_earlier_fault_ = has_fault();  // looked at before this call can have one
  device_.begin_call(stream);
  CallParams params = make_call_params(call);
  trace_ = call.schedule == Schedule::comet ? call.trace : nullptr;
  if (trace_ != nullptr) {
    if (device_trace_ == nullptr) device_trace_ = std::make_unique<DeviceTrace>();
    device_trace_->queue_clear(stream);
    params.trace = device_trace_->ring();
  }
  const OrderProblem wanted =
      call.schedule == Schedule::comet ? order_problem(params, call) : OrderProblem{};
  queue_start(params, call, wanted, stream);
  DevicePuts* const puts = device_.puts();
  const cudaStream_t put_stream = device_.partition().put_stream();
  if (puts != nullptr) {
    order_streams(stream, put_stream, device_.event(0));
    join_tokens(params, put_stream);
    check_cuda(puts->queue_carry(params, put_stream), "launching puts");
  }
  if (call.schedule == Schedule::comet) {
    queue_comet(params, wanted, stream);
  } else if (call.schedule == Schedule::pipelined) {
    queue_pipelined(params, call.reserved, stream);
  } else {
    queue_sequential(params, stream);
  }
  if (puts != nullptr) order_streams(put_stream, stream, device_.event(0));
  const bool ends_on_one_stream = puts == nullptr && call.schedule != Schedule::pipelined;
  // It writes to y only if the call has failed.
  launch_end_call(params,
                  static_cast<int>(std::clamp<std::int64_t>(params.y_rows, 1, multiprocessors_)),
                  ends_on_one_stream ? Follow::closely : Follow::after_all, stream);
  device_.end_call(stream);
}

// x, where it is copied, is by publish, or by a kernel of its own beside what comes up to the plan,
// on the queue that pipelined has for its copies. What reads x comes after join_tokens.
void CudaEngine::queue_publish(const CallParams& params, const QueuedCall& call,
                               cudaStream_t stream) {
  const std::int64_t tokens = call.fault ? 0 : call.routing.tokens;
  const std::int64_t sms = multiprocessors_;
  const auto blocks = [](std::int64_t wanted, std::int64_t most) {
    return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, most));
  };
  const std::int64_t copiers = ceil_div(tokens, kPublishTokensPerBlock);
  const std::int64_t writers = ceil_div(tokens * dims_.topk, kPublishChoicesPerBlock);
  launch_publish(params, make_sentence(call.fault),
                 blocks(params.copies_x && !params.copies_beside_plan ? copiers : writers,
                        kPublishBlocksPerSm * sms),
                 stream);
  const cudaStream_t copies = device_.partition().copy_stream();
  if (params.copies_beside_plan) order_streams(stream, copies, device_.event(0));
  DevicePuts* const puts = device_.puts();
  if (puts != nullptr) {
    check_cuda(puts->queue_published(params, stream), "launching puts of what is published");
  }
  // After the puts, which other ranks wait for.
  if (params.copies_beside_plan) {
    launch_copy_tokens(params, blocks(copiers, kCopyBlocksPerSm * sms), copies);
  }
}

// What is queued on `stream` from now on can read the x of this rank and of all within reach. Says
// how the next kernel follows.
Follow CudaEngine::join_tokens(const CallParams& params, cudaStream_t stream) {
  if (!params.copies_beside_plan) return Follow::closely;
  order_streams(device_.partition().copy_stream(), stream, device_.event(0));
  return Follow::after_all;
}

void CudaEngine::queue_sequential(const CallParams& params, cudaStream_t stream) {
  const Follow follow = join_tokens(params, stream);
  launch_dispatch(params, 0, multiprocessors_, follow, stream);
  queue_products(params.plan.group_tiles, &params.tickets[0].products, multiprocessors_,
                 Follow::closely, stream);
  queue_combine(params, 0, multiprocessors_, Follow::closely, stream);
}

// Copies on a queue of their own, where that of x may already be, all groups' dispatch and then all
// groups' combine, on reserved multiprocessors; where nothing else can run they take all.
void CudaEngine::queue_pipelined(const CallParams& params, int reserved, cudaStream_t stream) {
  const auto copies = static_cast<cudaStream_t>(device_.copy_stream());
  const std::int32_t groups = params.config.groups;
  std::size_t next_event = 0;
  const auto order = [&](cudaStream_t from, cudaStream_t to) {
    order_streams(from, to, device_.event(next_event++));
  };
  const int computing = groups > 1 ? std::max(multiprocessors_ - reserved, 1) : multiprocessors_;
  order(stream, copies);
  std::vector<cudaEvent_t> computed;
  for (std::int32_t group = 0; group < groups; ++group) {
    launch_dispatch(params, group, group == 0 ? multiprocessors_ : reserved, Follow::after_all,
                    copies);
    order(copies, stream);
    queue_products(params.plan.group_tiles + group, &params.tickets[group].products, computing,
                   Follow::after_all, stream);
    computed.push_back(device_.event(next_event++));
    check_cuda(cudaEventRecord(computed.back(), stream), "recording an event");
  }
  for (std::int32_t group = 0; group < groups; ++group) {
    check_cuda(cudaStreamWaitEvent(copies, computed[static_cast<std::size_t>(group)], 0),
               "waiting for an event");
    queue_combine(params, group, group == groups - 1 ? multiprocessors_ : reserved,
                  Follow::after_all, copies);
  }
  order(copies, stream);
}

void CudaEngine::queue_comet(const CallParams& params, const OrderProblem& wanted,
                             cudaStream_t stream) {
  const DevicePlanView& plan = plan_.view();
  OverlapParams overlap{.call = params,
                        .first = {},
                        .second = {},
                        .order = wanted.order,
                        .choice = wanted.choice,
                        .num_panels = wanted.num_panels,
                        .is_gated = desc_.gated};
  if (first_ != nullptr) {
    const bool before_down = desc_.weight_position == WeightPosition::before_down;
    overlap.first = first_->params(plan.tiles, before_down ? row_weights_.data() : nullptr);
    overlap.second = second_->params(plan.tiles, nullptr);
  }
  if (!wanted.comes_with_plan()) {
    launch_order_overlap(plan_problem(params), plan, wanted, stream);
  }
  const Follow follow = join_tokens(params, stream);
  const bool is_half = desc_.dtype == DType::f16;
  if (dims_.block_m == 64) {
    (is_half ? launch_overlap_f16_m64 : launch_overlap_bf16_m64)(overlap, multiprocessors_, follow,
                                                                 stream);
  } else {
    (is_half ? launch_overlap_f16_m128 : launch_overlap_bf16_m128)(overlap, multiprocessors_,
                                                                   follow, stream);
  }
}

}  // namespace comet::cuda
