// SPDX-License-Identifier: Apache-2.0
#include "layer/publish.hpp"

#include <algorithm>
#include <cstring>

#include "base/check.hpp"
#include "comm/bounded_wait.hpp"
#include "plan/problem.hpp"

namespace comet {
namespace {

// Bytes of a header that a healthy call reads: all but the sentence.
constexpr std::int64_t kHeaderBytes = offsetof(CallHeader, sentence);

template <typename... Args>
InputFault fault_of(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return {code, fmt::format(format, std::forward<Args>(args)...)};
}

// What a rank that publishes `tokens` tokens shows all others before they plan.
std::int64_t metadata_bytes(const LayerDims& dims, std::int64_t tokens) {
  return kHeaderBytes + tokens * dims.topk * 2;
}

CallHeader* header_of(const Workspace& workspace, int rank, std::uint32_t epoch) {
  return reinterpret_cast<CallHeader*>(workspace.peers()[rank] +
                                       workspace.layout().header[epoch & 1U]);
}

std::uint32_t* published_slot(const Workspace& workspace, int at, int source) {
  return reinterpret_cast<std::uint32_t*>(workspace.peers()[at] + workspace.layout().published) +
         source;
}

// Ids travel as 16 bits; find_input_fault has seen that they fit.
void write_routing(Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
                   const RoutingView& routing) {
  const std::int64_t count = routing.tokens * dims.topk;
  auto* ids =
      reinterpret_cast<std::uint16_t*>(workspace.local() + workspace.layout().ids[epoch & 1U]);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t id = routing.id(i);
    ids[i] = id < 0 ? kDroppedId : static_cast<std::uint16_t>(id);
  }
  auto* weights =
      reinterpret_cast<float*>(workspace.local() + workspace.layout().weights[epoch & 1U]);
  for (std::int64_t i = 0; i < count; ++i) weights[i] = routing.weight(i);
}

void write_tokens(Workspace& workspace, const LayerDims& dims, const ConstMatrixView& x) {
  for (std::int64_t t = 0; t < x.rows; ++t) {
    std::memcpy(workspace.local() + workspace.layout().x + t * dims.row_bytes(),
                static_cast<const std::byte*>(x.data) + t * x.row_stride * dims.element_bytes,
                static_cast<std::size_t>(dims.row_bytes()));
  }
}

void put_published(const Workspace& workspace, const LayerDims& dims, std::uint32_t epoch, int peer,
                   bool all_tokens) {
  RemoteRanks& remote = *workspace.world().view().remote;
  const CallHeader* header = header_of(workspace, dims.rank, epoch);
  remote.put(peer, reinterpret_cast<const std::byte*>(header),
             header->fault != 0 ? std::int64_t{sizeof(CallHeader)} : kHeaderBytes);
  const auto put = [&](std::int64_t region, std::int64_t token_bytes) {
    remote.put(peer, workspace.local() + region, header->tokens * token_bytes);
  };
  const WorkspaceLayout& layout = workspace.layout();
  put(layout.ids[epoch & 1U], std::int64_t{dims.topk} * 2);
  if (!all_tokens) return;
  put(layout.weights[epoch & 1U], dims.weight_bytes());
  put(layout.x, dims.row_bytes());
}

void wait_for_headers(const Workspace& workspace, std::uint32_t epoch) {
  const WorldView& world = workspace.world().view();
  for (int source = 0; source < world.size; ++source) {
    std::uint32_t* slot = published_slot(workspace, world.rank, source);
    if (has_reached(slot, epoch)) continue;
    world.progress->set(world.rank, {epoch, Stage::publish, source});
    if (wait_until(world, [&] { return has_reached(slot, epoch); })) continue;
    const std::uint32_t seen = std::atomic_ref(*slot).load(std::memory_order_relaxed);
    world.report_failure(
        ErrorCode::timeout,
        fmt::format("[publish] rank {} waited {} ms for rank {} to enter call {}, seen call {}; {}",
                    world.rank,
                    std::chrono::duration_cast<std::chrono::milliseconds>(world.timeout).count(),
                    source, epoch, seen, world.progress->describe_cause(source)));
    world.failures->rethrow(world.rank);
  }
}

// Books what all other ranks' plans need, headers and ids, on the link and sleeps until it would be
// here. Routing weights, two thirds of the metadata, travel with the tokens that are pulled.
void pace_metadata(const Workspace& workspace, const LayerDims& dims, Published& published) {
  const WorldView& world = workspace.world().view();
  const auto now = std::chrono::steady_clock::now();
  auto end = now;
  for (int step = 1; step < world.size; ++step) {
    const int source = (world.rank + step) % world.size;
    const std::int64_t bytes = metadata_bytes(dims, published.tokens[source]);
    published.metadata_bytes_in += bytes;
    end = std::max(end, world.link->book(source, world.rank, bytes, now));
  }
  while (std::chrono::steady_clock::now() < end) {
    const std::uint32_t rung = world.doorbell().value();
    if (world.failures->failed()) world.failures->rethrow(world.rank);
    world.doorbell().sleep(rung, end);
  }
}

}  // namespace

std::optional<InputFault> find_view_fault(const LayerDims& dims, DType dtype,
                                          const ConstMatrixView& x, const RoutingView& routing,
                                          const MatrixView& y) {
  using enum ErrorCode;
  const int rank = dims.rank;
  const std::int64_t tokens = routing.tokens;
  if (tokens < 0 || tokens > dims.max_tokens) {
    return InputFault{
        capacity, input_fault_sentence(dims, rank, {InputFaultKind::too_many_tokens, tokens, 0})};
  }
  if (x.rows != tokens || y.rows != tokens) {
    return fault_of(invalid_argument,
                    "[publish] rank {}: x has {} rows and y {}, routing {} tokens", rank, x.rows,
                    y.rows, tokens);
  }
  if (tokens == 0) return std::nullopt;
  if (x.data == nullptr || y.data == nullptr || routing.ids == nullptr ||
      routing.weights == nullptr) {
    return fault_of(invalid_argument,
                    "[publish] rank {}: null pointer in x, y, ids or weights of "
                    "{} tokens",
                    rank, tokens);
  }
  if (x.cols != dims.hidden || y.cols != dims.hidden || x.row_stride < x.cols ||
      y.row_stride < y.cols) {
    return fault_of(
        invalid_argument,
        "[publish] rank {}: x [{}, {}] stride {} and y [{}, {}] stride {}, needed are {} "
        "columns and strides of at least that",
        rank, x.rows, x.cols, x.row_stride, y.rows, y.cols, y.row_stride, dims.hidden);
  }
  if (x.dtype != dtype || y.dtype != dtype) {
    return fault_of(invalid_argument, "[publish] rank {}: x is {} and y {}, the layer is {}", rank,
                    to_string(x.dtype), to_string(y.dtype), to_string(dtype));
  }
  return std::nullopt;
}

std::optional<InputFault> find_input_fault(const LayerDims& dims, DType dtype,
                                           const ConstMatrixView& x, const RoutingView& routing,
                                           const MatrixView& y) {
  if (auto fault = find_view_fault(dims, dtype, x, routing, y)) return fault;
  for (std::int64_t i = 0; i < routing.tokens * dims.topk; ++i) {
    const std::int64_t id = routing.id(i);
    if (id >= -1 && id < dims.num_experts) continue;
    return InputFault{ErrorCode::out_of_range,
                      input_fault_sentence(dims, dims.rank, {InputFaultKind::bad_id, i, id})};
  }
  return std::nullopt;
}

void publish(Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
             std::uint64_t config_hash, const ConstMatrixView& x, const RoutingView& routing,
             const std::optional<InputFault>& fault) {
  const WorldView& world = workspace.world().view();
  CallHeader* header = header_of(workspace, world.rank, epoch);
  header->epoch = epoch;
  header->tokens = 0;
  header->config_hash = config_hash;
  header->fault = 0;
  if (fault) {
    header->fault = 1 + static_cast<std::int32_t>(fault->code);
    const std::size_t length = std::min(fault->sentence.size(), sizeof(header->sentence) - 1);
    std::memcpy(header->sentence, fault->sentence.data(), length);
    header->sentence[length] = '\0';
  } else {
    header->tokens = static_cast<std::int32_t>(routing.tokens);
    write_routing(workspace, dims, epoch, routing);
    write_tokens(workspace, dims, x);
  }
}

void announce(const Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
              bool all_tokens) {
  const WorldView& world = workspace.world().view();
  for (int step = 0; step < world.size; ++step) {
    const int peer = (world.rank + step) % world.size;
    if (world.is_remote(peer)) put_published(workspace, dims, epoch, peer, all_tokens);
    world.signal(peer, published_slot(workspace, peer, world.rank), epoch);
  }
}

std::int64_t announced_bytes(const LayerDims& dims, std::int64_t tokens, const WorldView& world) {
  std::int64_t bytes = 0;
  for (int peer = 0; peer < world.size; ++peer) {
    if (world.is_remote(peer)) bytes += metadata_bytes(dims, tokens);
  }
  return bytes;
}

void read_headers(Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
                  Published& published) {
  const WorldView& world = workspace.world().view();
  wait_for_headers(workspace, epoch);
  published.tokens.resize(world.size);
  published.ids.resize(world.size);
  published.metadata_bytes_in = 0;
  for (int rank = 0; rank < world.size; ++rank) {
    const CallHeader& header = *header_of(workspace, rank, epoch);
    if (header.fault != 0) {
      throw Error(static_cast<ErrorCode>(header.fault - 1), header.sentence);
    }
    published.tokens[rank] = header.tokens;
    published.ids[rank] = reinterpret_cast<const std::uint16_t*>(
        workspace.peers()[rank] + workspace.layout().ids[epoch & 1U]);
  }
  for (int rank = 1; rank < world.size; ++rank) {
    check(header_of(workspace, rank, epoch)->config_hash ==
              header_of(workspace, 0, epoch)->config_hash,
          ErrorCode::mismatch,
          "[publish] ranks 0 and {} run different layers, schedules or options in call {}", rank,
          epoch);
  }
  pace_metadata(workspace, dims, published);
}

}  // namespace comet
