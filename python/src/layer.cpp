// SPDX-License-Identifier: Apache-2.0
#include "layer.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "comet/error.hpp"
#include "fork_lock.hpp"

namespace comet::python {
namespace {

// Checks the ranks, then the weights, whole or the part of the one rank here.
MoeDesc describe(const WeightArrays& w13, const WeightArrays& w2, const LayerSpec& spec,
                 const WorldPart& world) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, "[layer] " + what);
  };
  const GateLayout layout = parse_gate_layout(spec.gate_layout);
  const bool is_gated = layout != GateLayout::none;
  if (w13.experts() != w2.experts()) {
    refuse(fmt::format("w2: {} experts, w13 has {}", w2.experts(), w13.experts()));
  }
  if (w13.cols() != w2.rows()) {
    refuse(fmt::format("w13: tokens of {} elements, w2 makes them of {}", w13.cols(), w2.rows()));
  }
  if (w13.rows() != (is_gated ? 2 : 1) * w2.cols()) {
    refuse(fmt::format("w13: {} rows an expert, {} are needed for w2's {} columns with layout {}",
                       w13.rows(), (is_gated ? 2 : 1) * w2.cols(), w2.cols(), spec.gate_layout));
  }
  if (w13.dtype() != w2.dtype()) {
    refuse(fmt::format("w2: {}, w13 is {}", to_string(w2.dtype()), to_string(w13.dtype())));
  }
  if (spec.max_tokens < 0) refuse(fmt::format("max_tokens: {}, from 0", spec.max_tokens));
  if (spec.workers < 0) refuse(fmt::format("workers: {}, from 0", spec.workers));
  if (spec.ep < 1 || spec.tp < 1 || spec.ep * spec.tp != world.size()) {
    refuse(fmt::format("ep {} x tp {}: the world has {} ranks", spec.ep, spec.tp, world.size()));
  }
  const bool is_part = spec.num_experts != 0;
  if (is_part && world.num_here() != 1) {
    refuse(fmt::format("num_experts: {}, for weights of one rank, and {} ranks are here",
                       spec.num_experts, world.num_here()));
  }
  const std::int64_t here = world.num_here();
  return {.num_experts = is_part ? spec.num_experts : w13.experts(),
          .topk = spec.topk,
          .hidden = w13.cols(),
          .intermediate = w2.cols() * (is_part ? spec.tp : 1),
          .max_tokens = (spec.max_tokens + here - 1) / here,
          .dtype = w13.dtype(),
          .activation = parse_activation(spec.activation),
          .gated = is_gated,
          .weight_position = parse_weight_position(spec.weight_position)};
}

// The argument that `out` shares memory with, or null.
const char* shared_with(const CallViews& views, const WeightArrays& w13, const WeightArrays& w2) {
  const RoutingView& routing = views.routing;
  const std::int64_t choices = routing.tokens * views.topk;
  const auto dense = [choices](const void* data, std::int64_t bytes) {
    const auto* begin = static_cast<const std::byte*>(data);
    return MemoryRange{begin, begin + choices * bytes};
  };
  const MatrixView& y = views.out;
  const MemoryRange out = range_of({y.data, y.rows, y.cols, y.row_stride, y.dtype});
  if (do_overlap(out, range_of(views.x))) return "x";
  if (do_overlap(out, dense(routing.ids, routing.id_type == IdType::i32 ? 4 : 8))) {
    return "topk_ids";
  }
  if (do_overlap(out,
                 dense(routing.weights, static_cast<std::int64_t>(size_of(routing.weight_type))))) {
    return "topk_weights";
  }
  if (w13.overlap(out)) return "w13";
  return w2.overlap(out) ? "w2" : nullptr;
}

int choose_workers(int wished, int ranks) {
  if (wished > 0) return wished;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / ranks);
}

}  // namespace

Layer::Layer(std::shared_ptr<WorldPart> world, const nb::list& w13, const nb::list& w2,
             const LayerSpec& spec)
    : world_(std::move(world)),
      w13_(w13, "w13"),
      w2_(w2, "w2"),
      desc_(describe(w13_, w2_, spec, *world_)),
      parallel_{.ep = spec.ep, .tp = spec.tp},
      place_(world_->place()),
      max_tokens_(spec.max_tokens),
      workers_(choose_workers(spec.workers, world_->size())),
      layers_(static_cast<std::size_t>(world_->num_here())) {
  validate(desc_, parallel_);
  w13_.check_place(place_);
  w2_.check_place(place_);
  const GateLayout layout = parse_gate_layout(spec.gate_layout);
  const bool is_part = spec.num_experts != 0;
  for (int index = 0; index < world_->num_here(); ++index) {
    const int rank = world_->first_rank() + index;
    const auto local =
        static_cast<std::int64_t>(local_experts(desc_, parallel_, rank / parallel_.tp).size());
    if (is_part && w13_.experts() != local) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("[layer] w13: {} experts, rank {} has {} of the {}", w13_.experts(),
                              rank, local, desc_.num_experts));
    }
    rank_weights_.emplace_back(w13_, w2_, layout, desc_, parallel_, rank, is_part);
  }
  const nb::gil_scoped_release unlocked;
  const ForkLock unforked;
  world_->run([&](int index) {
    const auto i = static_cast<std::size_t>(index);
    layers_[i] =
        MoeLayer::create(desc_, parallel_, rank_weights_[i].weights(), world_->world(index),
                         {.num_workers = workers_, .workspace = world_->workspace(index)});
    world_->workspace(index) = layers_[i]->workspace();
  });
}

Layer::~Layer() {
  if (!world_->is_own()) {
    for (std::unique_ptr<MoeLayer>& layer : layers_) static_cast<void>(layer.release());
    return;
  }
  // Collective; a rank that cannot destroy its layer would have thrown in a call.
  const nb::gil_scoped_release unlocked;
  const ForkLock unforked;
  world_->run([this](int rank) { layers_[static_cast<std::size_t>(rank)].reset(); });
}

std::int64_t Layer::workspace_bytes() const noexcept {
  return layers_.front()->workspace_bytes() + local_bytes();
}

std::int64_t Layer::local_bytes() const noexcept { return layers_.front()->local_bytes(); }

CallArrays::CallArrays(nb::handle x, nb::handle ids, nb::handle weights, nb::handle out)
    : x_(x, "x", Use::read),
      ids_(ids, "topk_ids", Use::read),
      weights_(weights, "topk_weights", Use::read),
      out_(out, "out", Use::write) {}

CallViews CallArrays::views(const Place& place) const {
  for (const Array* array : {&x_, &ids_, &weights_, &out_}) check_place(*array, place);
  const ConstMatrixView x = matrix_of(x_);  // first: out is often made like it
  const ConstMatrixView to = matrix_of(out_);
  return {.x = x,
          .routing = routing_of(ids_, weights_),
          .topk = ids_.shape(1),
          .out = {out_.data(), to.rows, to.cols, to.row_stride, to.dtype},
          .stream = place.is_cuda ? x_.stream() : nullptr};
}

std::int64_t CallArrays::topk() const noexcept { return ids_.axes() == 2 ? ids_.shape(1) : -1; }

std::int64_t CallArrays::tokens() const noexcept { return x_.axes() == 2 ? x_.shape(0) : -1; }

void Layer::check_views(const CallViews& views) const {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, "[moe] " + what);
  };
  const ConstMatrixView& x = views.x;
  const MatrixView& out = views.out;
  if (x.cols != desc_.hidden) {
    refuse(fmt::format("x: tokens of {} elements, the layer's have {}", x.cols, desc_.hidden));
  }
  if (x.dtype != desc_.dtype || out.dtype != desc_.dtype) {
    refuse(fmt::format("x is {} and out is {}, the weights are {}", to_string(x.dtype),
                       to_string(out.dtype), to_string(desc_.dtype)));
  }
  if (out.rows != x.rows || out.cols != x.cols) {
    refuse(fmt::format("out: {} x {}, x is {} x {}", out.rows, out.cols, x.rows, x.cols));
  }
  if (const char* const name = shared_with(views, w13_, w2_)) {
    refuse(fmt::format("out: it shares memory with {}", name));
  }
  if (views.topk != desc_.topk || views.routing.tokens != x.rows) {
    refuse(fmt::format("topk_ids: {} x {}, {} x {} are needed", views.routing.tokens, views.topk,
                       x.rows, desc_.topk));
  }
  if (x.rows > max_tokens_) {
    throw Error(ErrorCode::capacity,
                fmt::format("[moe] x: {} tokens, the layer was made for {}", x.rows, max_tokens_));
  }
}

// One rank alone has nothing to hide. Its GPU then is faster by sequential, whose kernels have no
// copies beside them, but where experts have many rows: on an H200 sequential took 0.74 (Qwen3-MoE)
// and 0.84 (OLMoE) of comet's time with 256 and 512 rows an expert, and 1.10 (Mixtral) with 1024
// (bench/python/transformers_layers.py). Bits are the same.
Schedule Layer::schedule_of(const CallSpec& spec, std::int64_t tokens) const {
  constexpr std::int64_t kRowsOfOverlap = 768;
  if (spec.schedule != "auto") {
    try {
      return parse_schedule(spec.schedule);
    } catch (const Error& error) {  // lists the names of the library, which has no "auto"
      throw Error(error.code(), fmt::format("{}, auto", error.what()));
    }
  }
  const bool is_alone = place_.is_cuda && world_->size() == 1 && !spec.is_traced;
  const std::int64_t rows = tokens * desc_.topk / std::max<std::int64_t>(desc_.num_experts, 1);
  return is_alone && rows < kRowsOfOverlap ? Schedule::sequential : Schedule::comet;
}

// All ranks must expect the same: a process that is one of them knows its own tokens alone.
ForwardOptions Layer::options_of(const CallSpec& spec, const CallViews& views) const {
  if (spec.expected_tokens < 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("[moe] expected_tokens: {}, from 0", spec.expected_tokens));
  }
  const bool knows_all = world_->num_here() == world_->size();
  return {.schedule = schedule_of(spec, views.x.rows),
          .groups = spec.groups,
          .panel = spec.panel,
          .n_c_dispatch = spec.n_c_dispatch,
          .n_c_combine = spec.n_c_combine,
          .placement = parse_placement(spec.placement),
          .waves = spec.waves,
          .expected_tokens =
              spec.expected_tokens == 0 && knows_all ? views.x.rows : spec.expected_tokens};
}

std::vector<Trace> Layer::forward(const CallArrays& arrays, const CallSpec& spec) {
  const CallViews views = arrays.views(place_);
  check_views(views);
  const int parts = world_->num_here();
  // Ranks that may share a GPU have streams of their own, which all leave the caller's before any
  // comes back to it.
  const bool forks = place_.is_cuda && world_->size() > 1;
  if (forks) world_->require_own();  // as WorldPart::run does, which comes later
  ForwardOptions options = options_of(spec, views);
  if (!forks) options.stream = views.stream;
  std::vector<Trace> traces(spec.is_traced ? static_cast<std::size_t>(parts) : 0);
  const nb::gil_scoped_release unlocked;
  for (int index = 0; forks && index < parts; ++index) {
    world_->world(index).fork_from(views.stream);
  }
  world_->run([&](int index) {
    const auto i = static_cast<std::size_t>(index);
    const std::int64_t begin = part_begin(views.x.rows, parts, index);
    const std::int64_t end = part_begin(views.x.rows, parts, index + 1);
    ForwardOptions own = options;
    if (spec.is_traced) own.trace = &traces[i];
    layers_[i]->forward(rows_of(views.x, begin, end),
                        rows_of(views.routing, views.topk, begin, end),
                        rows_of(views.out, begin, end), own);
    if (spec.is_traced) layers_[i]->check();
  });
  for (int index = 0; forks && index < parts; ++index) world_->world(index).join_to(views.stream);
  return traces;
}

std::string Layer::explain_choice(std::int64_t tokens) {
  std::string text;
  const nb::gil_scoped_release unlocked;
  world_->run([&](int index) {
    if (index == 0) text = layers_.front()->explain_choice(tokens);
  });
  return text;
}

std::vector<CallStats> Layer::check() {
  std::vector<CallStats> stats(layers_.size());
  const nb::gil_scoped_release unlocked;
  world_->run([&](int index) {
    const auto i = static_cast<std::size_t>(index);
    stats[i] = layers_[i]->check();
  });
  return stats;
}

}  // namespace comet::python
