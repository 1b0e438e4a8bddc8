// SPDX-License-Identifier: Apache-2.0
#include "check/case_data.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/check.hpp"
#include "base/element.hpp"
#include "check/rng.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kWeightStream = 1;
constexpr std::uint64_t kCallStream = 1000;
constexpr std::int64_t kPadding = 5;        // odd on purpose: rows that start at no round address
constexpr std::int64_t kDevicePadding = 8;  // TMA wants strides of whole 16 bytes

// Values in [-scale, scale).
Bytes random_values(Rng& rng, std::int64_t count, DType dtype, float scale) {
  Bytes bytes(count * size_of(dtype));
  for (std::int64_t i = 0; i < count; ++i) {
    store_element(bytes.data(), i, dtype, scale * rng.symmetric());
  }
  return bytes;
}

// A matrix [rows, cols] at an element offset of some buffer.
struct Placed {
  std::byte* data;
  std::int64_t row_stride;
};

// Copies rows [row_begin, +rows) and columns [col_begin, +cols) of `source`, whose rows have
// `source_cols` elements.
struct Block {
  std::int64_t row_begin, rows, col_begin, cols, source_cols;
};
void copy_block(const std::byte* source, const Block& block, DType dtype, const Placed& target) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const std::int64_t from = (block.row_begin + row) * block.source_cols + block.col_begin;
    std::memcpy(target.data + row * target.row_stride * size, source + from * size,
                block.cols * size);
  }
}

// Cuts one rank's slices out of the whole experts.
class Cutter {
 public:
  Cutter(const Case& c, const CaseWeights& whole, std::int64_t rank)
      : c_(c),
        whole_(whole),
        experts_(local_experts(c.desc, c.parallel, rank / c.parallel.tp)),
        hidden_(c.desc.hidden),
        inter_(c.desc.intermediate),
        slice_(c.desc.intermediate / c.parallel.tp),
        slice_begin_(rank % c.parallel.tp * slice_),
        size_(static_cast<std::int64_t>(size_of(c.desc.dtype))),
        padding_(c.backend == Backend::cuda ? kDevicePadding : kPadding) {}

  CaseRankWeights cut() {
    CaseRankWeights result;
    switch (c_.form) {
      case WeightForm::fused:
        cut_fused(result);
        break;
      case WeightForm::listed:
        cut_listed(result);
        break;
      case WeightForm::separate:
        cut_separate(result);
        break;
    }
    return result;
  }

 private:
  std::int64_t count() const { return static_cast<std::int64_t>(experts_.size()); }
  std::int64_t w13_elements() const { return (c_.desc.gated ? 2 : 1) * slice_ * hidden_; }

  void copy_up(const Bytes& matrix, std::int64_t local, const Placed& target) const {
    const std::byte* expert = matrix.data() + experts_[local] * inter_ * hidden_ * size_;
    copy_block(expert, {slice_begin_, slice_, 0, hidden_, hidden_}, c_.desc.dtype, target);
  }

  void copy_down(std::int64_t local, const Placed& target) const {
    const std::byte* expert = whole_.down.data() + experts_[local] * inter_ * hidden_ * size_;
    copy_block(expert, {0, hidden_, slice_begin_, slice_, inter_}, c_.desc.dtype, target);
  }

  void copy_w13(std::int64_t local, std::byte* target) const {
    std::byte* second = target + slice_ * hidden_ * size_;
    switch (c_.gate_layout) {
      case GateLayout::gate_up:
        copy_up(whole_.gate, local, {target, hidden_});
        copy_up(whole_.up, local, {second, hidden_});
        break;
      case GateLayout::up_gate:
        copy_up(whole_.up, local, {target, hidden_});
        copy_up(whole_.gate, local, {second, hidden_});
        break;
      case GateLayout::interleaved:
        copy_up(whole_.gate, local, {target, 2 * hidden_});
        copy_up(whole_.up, local, {target + hidden_ * size_, 2 * hidden_});
        break;
      case GateLayout::none:
        copy_up(whole_.up, local, {target, hidden_});
        break;
    }
  }

  void cut_fused(CaseRankWeights& result) const {
    result.buffers.emplace_back(count() * w13_elements() * size_);
    result.buffers.emplace_back(count() * hidden_ * slice_ * size_);
    for (std::int64_t local = 0; local < count(); ++local) {
      copy_w13(local, result.buffers[0].data() + local * w13_elements() * size_);
      copy_down(local, {result.buffers[1].data() + local * hidden_ * slice_ * size_, slice_});
    }
    result.view = fused_weights(result.buffers[0].data(), result.buffers[1].data(), c_.gate_layout,
                                slice_, hidden_);
  }

  void cut_listed(CaseRankWeights& result) const {
    for (std::int64_t local = 0; local < count(); ++local) {
      Bytes& w13 = result.buffers.emplace_back(w13_elements() * size_);
      copy_w13(local, w13.data());
      result.w13_list.push_back(w13.data());
      Bytes& w2 = result.buffers.emplace_back(hidden_ * slice_ * size_);
      copy_down(local, {w2.data(), slice_});
      result.w2_list.push_back(w2.data());
    }
    result.view = listed_weights(result.w13_list.data(), result.w2_list.data(), c_.gate_layout,
                                 slice_, hidden_);
  }

  void cut_separate(CaseRankWeights& result) const {
    const auto padded = [&](std::int64_t rows, std::int64_t cols) {
      ExpertMatrices matrices{.row_stride = cols + padding_};
      matrices.expert_stride = rows * matrices.row_stride + padding_;
      matrices.base = result.buffers.emplace_back(count() * matrices.expert_stride * size_).data();
      return matrices;
    };
    const auto start = [&](const ExpertMatrices& matrices, std::int64_t local) {
      std::byte* base = result.buffers.back().data();
      return Placed{base + local * matrices.expert_stride * size_, matrices.row_stride};
    };
    if (c_.desc.gated) {
      result.view.gate = padded(slice_, hidden_);
      for (std::int64_t e = 0; e < count(); ++e)
        copy_up(whole_.gate, e, start(result.view.gate, e));
    }
    result.view.up = padded(slice_, hidden_);
    for (std::int64_t e = 0; e < count(); ++e) copy_up(whole_.up, e, start(result.view.up, e));
    result.view.down = padded(hidden_, slice_);
    for (std::int64_t e = 0; e < count(); ++e) copy_down(e, start(result.view.down, e));
  }

  const Case& c_;
  const CaseWeights& whole_;
  std::vector<std::int32_t> experts_;
  std::int64_t hidden_, inter_, slice_, slice_begin_, size_, padding_;
};

// Draws the choices of tokens; one per call of the layer.
class Router {
 public:
  Router(const Case& c, RoutingKind kind, Rng& rng)
      : c_(c), kind_(kind), rng_(rng), order_(c.desc.num_experts) {
    std::iota(order_.begin(), order_.end(), 0);
    hot_ = rng_.between(0, c.desc.num_experts - 1);
    if (kind == RoutingKind::empty_experts) {
      shuffle(order_, c.desc.num_experts);
      order_.resize(rng_.between(1, c.desc.num_experts));
    }
  }

  // [K] ids of a token of `rank`.
  std::vector<std::int64_t> choose(std::int64_t rank) {
    const std::int64_t topk = c_.desc.topk;
    std::vector<std::int64_t> ids = distinct(candidates(rank));
    for (std::int64_t k = 0; k < topk; ++k) {
      if (kind_ == RoutingKind::all_dropped) ids[k] = -1;
      if (kind_ == RoutingKind::one_expert) ids[k] = k == 0 ? hot_ : -1;
      if (kind_ == RoutingKind::some_dropped && rng_.one_in(3)) ids[k] = -1;
      if (kind_ == RoutingKind::duplicates && k > 0 && rng_.one_in(2)) ids[k] = ids[k - 1];
    }
    return ids;
  }

 private:
  std::vector<std::int64_t> candidates(std::int64_t rank) const {
    if (kind_ != RoutingKind::local && kind_ != RoutingKind::remote) return order_;
    const std::vector<std::int32_t> owners = expert_owners(c_.desc, c_.parallel);
    std::vector<std::int64_t> chosen;
    for (const std::int64_t expert : order_) {
      const bool is_local = owners[expert] == rank / c_.parallel.tp;
      if (is_local == (kind_ == RoutingKind::local)) chosen.push_back(expert);
    }
    return chosen.empty() ? order_ : chosen;
  }

  // K of `from`, distinct as long as there are enough.
  std::vector<std::int64_t> distinct(std::vector<std::int64_t> from) {
    const auto available = static_cast<std::int64_t>(from.size());
    if (kind_ == RoutingKind::skewed) {
      // Cubing a uniform number puts half of the first picks into the first eighth.
      for (std::int64_t k = 0; k + 1 < std::min(c_.desc.topk, available); ++k) {
        const float unit = rng_.unit();
        const auto offset =
            static_cast<std::int64_t>(unit * unit * unit * static_cast<float>(available - k));
        std::rotate(from.begin() + k, from.begin() + k + offset, from.begin() + k + offset + 1);
      }
    } else {
      shuffle(from, std::min(c_.desc.topk, available));
    }
    std::vector<std::int64_t> ids(c_.desc.topk);
    for (std::int64_t k = 0; k < c_.desc.topk; ++k) ids[k] = from[k % available];
    return ids;
  }

  // Puts random elements into the first `count` places.
  void shuffle(std::vector<std::int64_t>& values, std::int64_t count) {
    const auto last = static_cast<std::int64_t>(values.size()) - 1;
    for (std::int64_t i = 0; i < count; ++i) std::swap(values[i], values[rng_.between(i, last)]);
  }

  const Case& c_;
  RoutingKind kind_;
  Rng& rng_;
  std::vector<std::int64_t> order_;  // experts in use
  std::int64_t hot_ = 0;
};

std::vector<std::int64_t> draw_tokens(const Case& c, TokenPattern pattern, Rng& rng) {
  std::vector<std::int64_t> tokens(c.world_size());
  const std::int64_t chosen = rng.between(0, c.world_size() - 1);
  for (std::int64_t rank = 0; rank < c.world_size(); ++rank) {
    const std::int64_t any = rng.between(0, c.desc.max_tokens);
    const bool empty = rng.one_in(2);
    switch (pattern) {
      case TokenPattern::any:
        tokens[rank] = any;
        break;
      case TokenPattern::full:
        tokens[rank] = c.desc.max_tokens;
        break;
      case TokenPattern::some_empty:
        tokens[rank] = empty ? 0 : any;
        break;
      case TokenPattern::one_rank:
        tokens[rank] = rank == chosen ? c.desc.max_tokens : 0;
        break;
      case TokenPattern::none:
        break;
    }
  }
  return tokens;
}

RankCall draw_rank_call(const Case& c, std::int64_t rank, std::int64_t tokens, Router& router,
                        Rng& rng) {
  RankCall call{.tokens = tokens,
                .hidden = c.desc.hidden,
                .row_stride = c.desc.hidden + c.row_padding,
                .dtype = c.desc.dtype,
                .id_type = c.id_type,
                .weight_type = c.weight_type,
                .x = {},
                .ids32 = {},
                .ids64 = {},
                .weights = Bytes(tokens * c.desc.topk * size_of(c.weight_type))};
  call.x = random_values(rng, tokens * call.row_stride, c.desc.dtype, 1.7F);
  if (c.id_type == IdType::i32) {
    call.ids32.resize(tokens * c.desc.topk);
  } else {
    call.ids64.resize(tokens * c.desc.topk);
  }
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::vector<std::int64_t> ids = router.choose(rank);
    for (std::int64_t k = 0; k < c.desc.topk; ++k) {
      const std::int64_t index = t * c.desc.topk + k;
      call.set_id(index, ids[k]);
      // Mostly router-like, sometimes 0 or negative: a weight decides nothing but a product.
      float weight = 0.05F + rng.unit();
      if (rng.one_in(32)) weight = 0;
      if (rng.one_in(32)) weight = -weight;
      if (ids[k] == -1) weight = std::numeric_limits<float>::quiet_NaN();
      call.set_weight(index, weight);
    }
  }
  return call;
}

std::vector<RankCall> draw_call(const Case& c, RoutingKind kind,
                                const std::vector<std::int64_t>& tokens, Rng& rng) {
  Router router(c, kind, rng);
  std::vector<RankCall> ranks;
  for (std::int64_t rank = 0; rank < c.world_size(); ++rank) {
    ranks.push_back(draw_rank_call(c, rank, tokens.at(rank), router, rng));
  }
  return ranks;
}

Rng call_rng(const Case& c, std::int64_t call) {
  return {c.seed ^ (c.index << 20), kCallStream + static_cast<std::uint64_t>(call)};
}

}  // namespace

CaseWeights make_weights(const Case& c) {
  const MoeDesc& desc = c.desc;
  Rng rng(c.seed ^ (c.index << 20), kWeightStream);
  const std::int64_t elements = desc.num_experts * desc.intermediate * desc.hidden;
  // Outputs of about 1: uniform numbers in [-s, s) have variance s^2 / 3.
  const float up_scale = 1.7F / std::sqrt(static_cast<float>(desc.hidden));
  const float down_scale = 3.0F / std::sqrt(static_cast<float>(desc.intermediate));
  CaseWeights weights;
  if (desc.gated) weights.gate = random_values(rng, elements, desc.dtype, up_scale);
  weights.up = random_values(rng, elements, desc.dtype, up_scale);
  weights.down = random_values(rng, elements, desc.dtype, down_scale);
  for (std::int64_t rank = 0; rank < c.world_size(); ++rank) {
    weights.ranks.push_back(Cutter(c, weights, rank).cut());
  }
  return weights;
}

ConstMatrixView RankCall::x_view() const noexcept {
  return {tokens == 0 ? nullptr : x.data(), tokens, hidden, row_stride, dtype};
}

RoutingView RankCall::routing_view() const noexcept {
  if (tokens == 0) return {.tokens = 0, .id_type = id_type};
  const void* ids = id_type == IdType::i32 ? static_cast<const void*>(ids32.data())
                                           : static_cast<const void*>(ids64.data());
  return {ids, weights.data(), tokens, id_type, weight_type};
}

void RankCall::set_id(std::int64_t index, std::int64_t id) noexcept {
  if (id_type == IdType::i32) {
    ids32[index] = static_cast<std::int32_t>(id);
  } else {
    ids64[index] = id;
  }
}

float RankCall::weight(std::int64_t index) const {
  return load_element(weights.data(), index, weight_type);
}

void RankCall::set_weight(std::int64_t index, float weight) {
  store_element(weights.data(), index, weight_type, weight);
}

std::vector<RankCall> make_call(const Case& c, std::int64_t call) {
  Rng rng = call_rng(c, call);
  TokenPattern pattern = c.pattern;
  RoutingKind kind = c.routing;
  if (call > 0) {
    pattern = rng.pick({TokenPattern::any, TokenPattern::any, TokenPattern::full,
                        TokenPattern::some_empty, TokenPattern::one_rank, TokenPattern::none});
    kind = rng.pick({RoutingKind::uniform, RoutingKind::uniform, RoutingKind::skewed,
                     RoutingKind::one_expert, RoutingKind::empty_experts, RoutingKind::some_dropped,
                     RoutingKind::all_dropped, RoutingKind::duplicates, RoutingKind::local,
                     RoutingKind::remote});
  }
  const std::vector<std::int64_t> tokens = draw_tokens(c, pattern, rng);
  return draw_call(c, kind, tokens, rng);
}

std::vector<RankCall> make_call_of(const Case& c, std::int64_t call,
                                   const std::vector<std::int64_t>& tokens) {
  Rng rng = call_rng(c, call);
  return draw_call(c, c.routing, tokens, rng);
}

}  // namespace comet
