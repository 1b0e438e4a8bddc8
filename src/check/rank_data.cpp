// SPDX-License-Identifier: Apache-2.0
#include "check/rank_data.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "comm/world_view.hpp"

namespace comet {
namespace {

std::int64_t row_bytes(const RankCall& call) {
  return call.row_stride * static_cast<std::int64_t>(size_of(call.dtype));
}

std::int64_t id_bytes(const RankCall& call) { return call.id_type == IdType::i32 ? 4 : 8; }

}  // namespace

RankData::RankData(const Case& c, const CaseWeights& weights, const Calls& calls, World& world)
    : c_(c), calls_(calls), world_(world), rank_(world.rank()), memory_(world) {
  const CaseRankWeights& own = weights.ranks.at(rank_);
  for (const Bytes& buffer : own.buffers) memory_.place(buffer.data(), std::ssize(buffer));
  const auto num_local = local_experts(c.desc, c.parallel, rank_ / c.parallel.tp).size();
  weights_ = memory_.locate(own.view, static_cast<std::int64_t>(num_local));
  for (const std::vector<RankCall>& ranks : calls) place(ranks.at(rank_));
  if (memory_.is_host()) return;
  std::int64_t y_bytes = 0;
  for (std::int64_t call = 0; call < std::ssize(calls); ++call) {
    y_bytes = std::max(y_bytes, room(call) * row_bytes(calls[call][rank_]));
  }
  // Rows that are no multiple of 16 bytes also begin where only an element may.
  const auto offset = static_cast<std::int64_t>(c.row_padding % 8 != 0 ? size_of(c.desc.dtype) : 0);
  y_ = static_cast<std::byte*>(memory_.reserve(offset + y_bytes)) + offset;
  tokens_ = memory_.reserve(sizeof(std::int32_t));
}

void RankData::place(const RankCall& call) {
  if (memory_.is_host()) {
    placed_.push_back({call.x_view().data, call.routing_view().ids, call.routing_view().weights});
    return;
  }
  const std::int64_t rows = room(std::ssize(placed_));
  const std::int64_t choices = c_.desc.topk;
  void* const x = memory_.reserve(rows * row_bytes(call));
  void* const ids = memory_.reserve(rows * choices * id_bytes(call));
  const auto weight_bytes = static_cast<std::int64_t>(size_of(call.weight_type));
  void* const weights = memory_.reserve(rows * choices * weight_bytes);
  const RoutingView routing = call.routing_view();
  memory_.upload(x, call.x.data(), call.tokens * row_bytes(call));
  memory_.upload(ids, routing.ids, call.tokens * choices * id_bytes(call));
  memory_.upload(weights, routing.weights, call.tokens * choices * weight_bytes);
  placed_.push_back({x, ids, weights});
}

std::int64_t RankData::room(std::int64_t call) const {
  return std::max(calls_[call][rank_].tokens, c_.desc.max_tokens);
}

CallArguments RankData::arguments(std::int64_t call, Bytes& y) const {
  const RankCall& own = calls_.at(call).at(rank_);
  CallArguments arguments{.x = own.x_view(), .routing = own.routing_view(), .y = {}};
  if (own.tokens > 0) {
    arguments.x.data = placed_[call].x;
    arguments.routing.ids = placed_[call].ids;
    arguments.routing.weights = placed_[call].weights;
  }
  arguments.y = {y_ != nullptr ? y_ : y.data(), own.tokens, own.hidden, own.row_stride, own.dtype};
  return arguments;
}

CallArguments RankData::roomy_arguments(std::int64_t call) const {
  check_internal(!memory_.is_host(), "[check] only a device reads T itself");
  const RankCall& own = calls_.at(call).at(rank_);
  const std::int64_t rows = room(call);
  const Placed& placed = placed_[call];
  return {.x = {placed.x, rows, own.hidden, own.row_stride, own.dtype},
          .routing = {placed.ids, placed.weights, rows, own.id_type, own.weight_type},
          .y = {y_, rows, own.hidden, own.row_stride, own.dtype}};
}

const std::int32_t* RankData::device_tokens(std::int64_t tokens) {
  check_internal(!memory_.is_host(), "[check] only a device reads T itself");
  const auto word = static_cast<std::int32_t>(tokens);
  memory_.upload(tokens_, &word, sizeof(word));
  return static_cast<const std::int32_t*>(tokens_);
}

void RankData::begin(const Bytes& y) {
  if (y_ != nullptr) memory_.upload(y_, y.data(), std::ssize(y));
}

void RankData::end(Bytes& y) {
  if (y_ == nullptr) return;
  const std::string trouble = world_.view().device->drain();
  check_internal(trouble.empty(), "[check] rank {}: its GPU says: {}", rank_, trouble);
  memory_.download(y.data(), y_, std::ssize(y));
}

}  // namespace comet
