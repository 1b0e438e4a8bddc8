// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/engine.hpp"

#include <algorithm>
#include <cstring>

#include "backend/cuda/host/call_range.hpp"
#include "backend/cuda/host/overlap_choice.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

// Blocks that copy the tokens of a call to the workspace: enough to saturate a partition's share of
// the memory.
constexpr int kPublishBlocksPerSm = 4;
constexpr std::int64_t kPublishTokensPerBlock = 8;  // a warp each; few tokens need few blocks

RankDevice& device_of(const LayerEngineParams& params) {
  RankDevice& device = static_cast<RankDevice&>(*params.world->device);
  device.make_current();
  return device;
}

PlanLimits plan_limits(const LayerEngineParams& params) {
  const LayerDims& dims = params.dims;
  return {.world = dims.world,
          .tp = dims.tp,
          .max_tokens = static_cast<std::int32_t>(dims.max_tokens),
          .topk = dims.topk,
          .num_local = dims.num_local,
          .block_m = static_cast<std::int32_t>(dims.block_m),
          .groups = static_cast<std::int32_t>(params.max_groups)};
}

std::int64_t row_slots_of(const LayerEngineParams& params, const PlanCapacity& capacity) {
  const std::int64_t all = capacity.tiles * params.dims.block_m;
  if (params.max_rows == 0) return all;
  return min_of(all, round_up(params.max_rows, params.dims.block_m));
}

template <typename T>
T* pinned(RankDevice& device, std::int64_t count) {
  return reinterpret_cast<T*>(device.allocate_pinned(count * static_cast<std::int64_t>(sizeof(T))));
}

FaultSentence make_sentence(const std::optional<HostFault>& fault) {
  FaultSentence sentence{};
  if (fault) {
    std::memcpy(sentence.text, fault->sentence.data(),
                std::min(fault->sentence.size(), sizeof(sentence.text) - 1));
  }
  return sentence;
}

// What a rank waited for, after "for rank 3".
std::string what_expired(const DeviceExpiry& expiry) {
  if (expiry.block < 0) return " to enter its call";
  const std::string tokens = fmt::format("tokens {} to {}", expiry.block * kTokenBlock,
                                         (expiry.block + 1) * kTokenBlock - 1);
  if (expiry.panel < 0) return "'s " + tokens;
  return fmt::format("'s partial sums of panel {}, {}", expiry.panel, tokens);
}

double microseconds(unsigned long long begin_ns, unsigned long long end_ns) {
  return end_ns > begin_ns ? static_cast<double>(end_ns - begin_ns) * 1e-3 : 0.0;
}

}  // namespace

template <typename T>
DeviceBuffer<T> CudaEngine::reserve(std::int64_t count) {
  DeviceBuffer<T> buffer(count);
  local_bytes_ += static_cast<std::int64_t>(buffer.bytes());
  if (count > 0) {
    check_cuda(cudaMemset(buffer.data(), 0, buffer.bytes()), "clearing device memory");
  }
  return buffer;
}

CudaEngine::CudaEngine(const LayerEngineParams& params)
    : desc_(params.desc),
      dims_(params.dims),
      world_(*params.world),
      device_(device_of(params)),
      max_rows_(params.max_rows),
      max_groups_(params.max_groups),
      multiprocessors_(device_.multiprocessors() - (device_.puts() != nullptr ? 1 : 0)),
      capacity_(plan_capacity(plan_limits(params))),
      row_slots_(row_slots_of(params, capacity_)),
      plan_(plan_limits(params)),
      order_(plan_limits(params), row_slots_, static_cast<std::int32_t>(params.max_groups),
             ceil_div(params.dims.hidden, params.dims.panel_n)) {
  local_bytes_ += order_.bytes();
  ep_rank_of_ = reserve<std::int32_t>(dims_.num_experts);
  ep_rank_of_.copy_from(params.ep_rank_of);
  local_of_ = reserve<std::int32_t>(dims_.num_experts);
  local_of_.copy_from(params.local_of);
  const CallState state;
  state_ = reserve<CallState>(1);
  tickets_ = reserve<Tickets>(max_groups_);
  seen_ = reserve<SeenHeader>(dims_.world);
  tokens_ = reserve<std::int32_t>(dims_.world);
  ids_stride_ = round_up(dims_.max_tokens * dims_.topk, 8);  // 16 bytes, copied by whole words
  ids_ = reserve<std::uint16_t>(dims_.world * ids_stride_);
  std::vector<const std::uint16_t*> pointers;
  for (std::int32_t rank = 0; rank < dims_.world; ++rank) {
    pointers.push_back(ids_.data() + rank * ids_stride_);
  }
  id_pointers_ = reserve<const std::uint16_t*>(dims_.world);
  id_pointers_.copy_from(pointers.data());
  if (max_rows_ > 0) {
    capacity_counts_ = reserve<std::uint32_t>(max_groups_ * dims_.num_experts);
    capacity_totals_ = reserve<unsigned long long>(dims_.world);
  }
  rows_ = reserve<std::byte>(row_slots_ * dims_.row_bytes());
  row_weights_ = reserve<float>(row_slots_);
  acts_ = reserve<std::byte>(row_slots_ * dims_.inter_local * dims_.element_bytes);
  out_ = reserve<std::byte>(row_slots_ * dims_.row_bytes());
  report_ = pinned<CallReport>(device_, 1);
  stamps_ = pinned<unsigned long long>(device_, 2);
  // Also waits for the clearing of all buffers.
  check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "clearing device memory");
  state_.copy_from(&state);
  device_peers(params.peers, nullptr);
  if (dims_.num_local > 0) make_products(params);
  preload_products();
}

void CudaEngine::make_products(const LayerEngineParams& params) {
  const GroupedGemmDesc first{.num_experts = dims_.num_local,
                              .row_slots = row_slots_,
                              .block_m = static_cast<std::int32_t>(dims_.block_m),
                              .k = dims_.hidden,
                              .n = dims_.inter_local,
                              .dtype = desc_.dtype,
                              .gated = desc_.gated,
                              .activated = true,
                              .activation = desc_.activation};
  const GroupedGemmDesc second{.num_experts = dims_.num_local,
                               .row_slots = row_slots_,
                               .block_m = static_cast<std::int32_t>(dims_.block_m),
                               .k = dims_.inter_local,
                               .n = dims_.hidden,
                               .dtype = desc_.dtype};
  first_ = std::make_unique<GroupedGemm>(first, rows_.data(), params.weights.gate,
                                         params.weights.up, acts_.data());
  second_ = std::make_unique<GroupedGemm>(second, acts_.data(), ExpertMatrices{},
                                          params.weights.down, out_.data());
}

// Runs the plan and the products once with no tokens, since a kernel's first launch loads it, which
// may wait for kernels of other ranks.
void CudaEngine::preload_products() {
  const cudaStream_t stream = device_.partition().stream();
  CallParams params;
  params.plan = plan_.view();
  for (const std::int64_t groups : {std::int64_t{1}, max_groups_}) {  // their kernels may differ
    params.config.groups = static_cast<std::int32_t>(groups);
    queue_plan(params, stream);
  }
  queue_products(plan_.view().group_tiles, 1, stream);
  check_cuda(cudaStreamSynchronize(stream), "loading a layer's kernels");
}

std::byte* const* CudaEngine::device_peers(std::byte* const* peers, cudaStream_t stream) {
  const std::vector<std::byte*> wanted(peers, peers + dims_.world);
  for (const Peers& known : peers_) {
    if (known.host == wanted) return known.device.data();
  }
  check(
      stream == nullptr || !is_capturing(stream), ErrorCode::invalid_argument,
      "[forward] rank {}: the workspace has grown since the layer's last call: run one outside of "
      "a capture first",
      dims_.rank);
  Peers added{wanted, DeviceBuffer<std::byte*>(dims_.world)};
  added.device.copy_from(wanted.data());
  return peers_.emplace_back(std::move(added)).device.data();
}

CallParams CudaEngine::make_call_params(const QueuedCall& call) {
  CallParams params;
  params.world = device_.world();
  params.dims = dims_;
  params.config = call.config;
  if (call.schedule == Schedule::comet) params.config.groups = 1;  // it cuts tiles, not tokens
  params.layout = call.layout;
  params.peers = device_peers(call.peers, static_cast<cudaStream_t>(call.stream));
  params.plan = plan_.view();
  params.state = state_.data();
  params.tickets = tickets_.data();
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
    params.device_tokens = call.routing.device_tokens;
    params.max_call_tokens = static_cast<std::int32_t>(call.routing.tokens);
  }
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

void CudaEngine::queue_plan(const CallParams& params, cudaStream_t stream) {
  launch_build_plan(
      {.problem = plan_problem(params), .max_tokens = static_cast<std::int32_t>(dims_.max_tokens)},
      plan_.view(), stream);
}

void CudaEngine::queue_products(const std::int32_t* tile_range, int num_blocks,
                                cudaStream_t stream) const {
  if (first_ == nullptr) return;
  const DevicePlanView& plan = plan_.view();
  const bool before_down = desc_.weight_position == WeightPosition::before_down;
  first_->launch(plan.tiles, tile_range, before_down ? row_weights_.data() : nullptr, num_blocks,
                 stream);
  second_->launch(plan.tiles, tile_range, nullptr, num_blocks, stream);
}

void CudaEngine::queue_combine(const CallParams& params, std::int32_t group, int num_blocks,
                               cudaStream_t stream) const {
  if (desc_.dtype == DType::f16) {
    launch_combine_f16(params, group, num_blocks, stream);
  } else {
    launch_combine_bf16(params, group, num_blocks, stream);
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
  const std::int64_t copiers =
      ceil_div(call.fault ? 0 : call.routing.tokens, kPublishTokensPerBlock);
  launch_publish(params, make_sentence(call.fault),
                 static_cast<int>(std::clamp<std::int64_t>(
                     copiers, 1, std::int64_t{kPublishBlocksPerSm} * multiprocessors_)),
                 stream);
  DevicePuts* const puts = device_.puts();
  if (puts != nullptr) {
    check_cuda(puts->queue_published(params, stream), "launching puts of what is published");
  }
  if (dims_.world > 1) launch_read_headers(params, stream);
  if (max_rows_ > 0) {
    launch_check_capacity(params,
                          {.ep_rank_of = ep_rank_of_.data(),
                           .counts = capacity_counts_.data(),
                           .totals = capacity_totals_.data(),
                           .max_rows = max_rows_},
                          stream);
  }
  queue_plan(params, stream);
  const cudaStream_t put_stream = device_.partition().put_stream();
  if (puts != nullptr) {
    order_streams(stream, put_stream, device_.event(0));
    check_cuda(puts->queue_carry(params, put_stream), "launching puts");
  }
  if (call.schedule == Schedule::comet) {
    queue_comet(params, call, stream);
  } else if (call.schedule == Schedule::pipelined) {
    queue_pipelined(params, call.reserved, stream);
  } else {
    queue_sequential(params, stream);
  }
  if (puts != nullptr) order_streams(put_stream, stream, device_.event(0));
  // It writes to y only if the call has failed.
  launch_end_call(params,
                  static_cast<int>(std::clamp<std::int64_t>(params.y_rows, 1, multiprocessors_)),
                  stream);
  device_.end_call(stream);
}

void CudaEngine::queue_sequential(const CallParams& params, cudaStream_t stream) {
  launch_dispatch(params, 0, multiprocessors_, stream);
  queue_products(params.plan.group_tiles, multiprocessors_, stream);
  queue_combine(params, 0, multiprocessors_, stream);
}

// Copies on a queue of their own, all groups' dispatch and then all groups' combine, on reserved
// multiprocessors; where nothing else can run they take all.
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
    launch_dispatch(params, group, group == 0 ? multiprocessors_ : reserved, copies);
    order(copies, stream);
    queue_products(params.plan.group_tiles + group, computing, stream);
    computed.push_back(device_.event(next_event++));
    check_cuda(cudaEventRecord(computed.back(), stream), "recording an event");
  }
  for (std::int32_t group = 0; group < groups; ++group) {
    check_cuda(cudaStreamWaitEvent(copies, computed[static_cast<std::size_t>(group)], 0),
               "waiting for an event");
    queue_combine(params, group, group == groups - 1 ? multiprocessors_ : reserved, copies);
  }
  order(copies, stream);
}

void CudaEngine::queue_comet(const CallParams& params, const QueuedCall& call,
                             cudaStream_t stream) {
  const DevicePlanView& plan = plan_.view();
  const std::int64_t products = desc_.gated ? 3 : 2;
  OverlapParams overlap{.call = params,
                        .first = {},
                        .second = {},
                        .order = order_.view(),
                        .choice = choose_overlap(dims_, call.config),
                        .num_panels = static_cast<std::int32_t>(num_panels(dims_, params.config)),
                        .is_gated = desc_.gated};
  overlap.choice.n_c_dispatch = call.n_c_dispatch;
  overlap.choice.n_c_combine = call.n_c_combine;
  overlap.choice.is_dedicated = call.placement == Placement::blocks;
  if (first_ != nullptr) {
    const bool before_down = desc_.weight_position == WeightPosition::before_down;
    overlap.first = first_->params(plan.tiles, before_down ? row_weights_.data() : nullptr);
    overlap.second = second_->params(plan.tiles, nullptr);
  }
  const OverlapCosts costs{
      .operations_per_row = 2.0 * static_cast<double>(products * dims_.hidden * dims_.inter_local),
      .bytes_per_token = static_cast<double>(dims_.row_bytes())};
  launch_order_overlap(plan_problem(params), plan, order_.view(), overlap.choice, costs,
                       overlap.num_panels, multiprocessors_, stream);
  const bool is_half = desc_.dtype == DType::f16;
  if (dims_.block_m == 64) {
    (is_half ? launch_overlap_f16_m64 : launch_overlap_bf16_m64)(overlap, multiprocessors_, stream);
  } else {
    (is_half ? launch_overlap_f16_m128 : launch_overlap_bf16_m128)(overlap, multiprocessors_,
                                                                   stream);
  }
}

CallStats CudaEngine::finish() {
  device_.make_current();
  const std::string trouble = device_.drain();
  if (!trouble.empty()) {
    world_.await_cause();
    world_.report_failure(ErrorCode::internal,
                          fmt::format("[forward] rank {}: its GPU says: {}", world_.rank, trouble));
  }
  rethrow_failure();
  rethrow_fault();
  if (trace_ != nullptr) {
    device_trace_->append_to(*trace_, dims_.rank, report_->times, device_.partition().stream());
    trace_ = nullptr;
  }
  const CallReport& report = *report_;
  CallStats stats;
  stats.t_layer_us = microseconds(report.times.begin_ns, report.times.end_ns);
  stats.t_publish_us = microseconds(report.times.begin_ns, report.times.published_ns);
  stats.t_plan_us = microseconds(report.times.published_ns, report.times.planned_ns);
  stats.t_dispatch_us = microseconds(report.times.planned_ns, report.times.dispatched_ns);
  stats.t_combine_us = microseconds(report.times.computed_ns, report.times.end_ns);
  stats.rows = report.num_rows;
  stats.tiles = report.num_tiles;
  stats.dispatch_bytes_in = stats.combine_bytes_out = report.tokens_in * dims_.row_bytes();
  stats.dispatch_bytes_out = stats.combine_bytes_in = report.tokens_out * dims_.row_bytes();
  stats.metadata_bytes_in = report.metadata_bytes_in;
  return stats;
}

// Whether a call that is done has a fault that nobody asked for. Its last kernel writes it, so a
// call that may still be running has none yet.
bool CudaEngine::has_fault() {
  if (std::atomic_ref(report_->fault.kind).load() == CallFaultKind::none) return false;
  const cudaStream_t stream = device_.last_stream();
  return stream != nullptr && !is_capturing(stream) && cudaStreamQuery(stream) == cudaSuccess;
}

void CudaEngine::rethrow_earlier() {
  if (std::atomic_ref(*device_.world().failed).load() != 0) rethrow_failure();
  if (has_earlier_fault_) rethrow_fault();
}

// The first rank whose wait expired wrote why before it told the others; any host may report it.
void CudaEngine::rethrow_failure() {
  const std::uint32_t failed = std::atomic_ref(*device_.world().failed).load();
  if (failed != 0 && failed != kHostFailed && !world_.failures->failed()) {
    const auto reporter = static_cast<std::int32_t>(failed - 1);
    const DeviceExpiry& expiry = device_.world().expiries[reporter];
    const std::string sentence =
        fmt::format("[{}] rank {} waited {} ms for rank {}{}, expected call {}, seen {}; {}",
                    to_string(static_cast<Stage>(expiry.stage)), reporter,
                    std::chrono::duration_cast<std::chrono::milliseconds>(world_.timeout).count(),
                    expiry.source, what_expired(expiry), expiry.expected, expiry.seen,
                    world_.progress->describe_cause(expiry.source));
    world_.failures->report(reporter, ErrorCode::timeout, sentence);
    for (int peer = 0; peer < world_.size; ++peer) world_.doorbells[peer]->ring();
  }
  if (world_.failures->failed()) world_.failures->rethrow(world_.rank);
}

void CudaEngine::rethrow_fault() {
  CallReport& report = *report_;
  const CallFault fault = report.fault;
  if (fault.kind == CallFaultKind::none) return;
  report.fault = {};
  std::string sentence;
  if (fault.kind == CallFaultKind::mismatch) {
    sentence = fmt::format(
        "[publish] ranks 0 and {} run different layers, schedules or options in call {}",
        fault.rank, report.fault_epoch);
  } else if (fault.kind == CallFaultKind::capacity) {
    sentence = fmt::format("[plan] EP rank {} needs {} rows (whole tiles of {}), max_rows is {}",
                           fault.rank, fault.detail.a, dims_.block_m, max_rows_);
  } else if (report.sentence[0] != '\0') {
    sentence = report.sentence;
  } else {
    sentence = input_fault_sentence(dims_, fault.rank, fault.detail);
  }
  throw Error(static_cast<ErrorCode>(fault.code - 1), sentence);
}

double CudaEngine::replay_compute() {
  device_.make_current();
  const cudaStream_t stream = device_.partition().stream();
  device_.queue_start_line();
  launch_stamp(stamps_, stream);
  queue_products(state_.data()->all_tiles, multiprocessors_, stream);
  launch_stamp(stamps_ + 1, stream);
  check_cuda(cudaStreamSynchronize(stream), "computing");
  return microseconds(stamps_[0], stamps_[1]);
}

std::unique_ptr<LayerEngine> make_layer_engine(const LayerEngineParams& params) {
  return std::make_unique<CudaEngine>(params);
}

void choose_device_tile(LayerDims& dims) {
  if (dims.block_m == 0) {
    dims.block_m =
        choose_gemm_block_m(dims.world * dims.max_tokens * dims.topk / max_of(dims.num_experts, 1));
  }
  if (dims.block_n == 0) dims.block_n = kGemmBlockN;
  check((dims.block_m == 64 || dims.block_m == 128) && dims.block_n == kGemmBlockN,
        ErrorCode::invalid_argument, "[layer] tile {} x {}: on cuda 64 or 128 x {}, or 0 to choose",
        dims.block_m, dims.block_n, kGemmBlockN);
  dims.panel_n = kGemmBlockN;
}

}  // namespace comet::cuda
