// SPDX-License-Identifier: Apache-2.0
#include "backend/ref/reference.hpp"

#include <cmath>
#include <vector>

#include "base/check.hpp"
#include "comm/bounded_wait.hpp"
#include "layout/token_blocks.hpp"

namespace comet {
namespace {

double activate(Activation activation, double value) {
  switch (activation) {
    case Activation::silu:
      return value / (1.0 + std::exp(-value));
    case Activation::gelu:
      return 0.5 * value * (1.0 + std::erf(value / std::sqrt(2.0)));
    case Activation::relu:
      return value > 0.0 ? value : 0.0;
  }
  fail(ErrorCode::internal, "[reference] unknown activation");
}

// T is the element type of tokens and weights.
template <typename T>
class Reference {
 public:
  Reference(const ReferenceCall& call, const WorldView& world)
      : call_(call),
        dims_(call.dims),
        world_(world),
        acts_(dims_.inter_local),
        sum_(dims_.hidden) {}

  void run() {
    for (std::int32_t home = 0; home < dims_.world; ++home) {
      for (std::int32_t t = 0; t < call_.tokens[home]; ++t) write_partial(home, t);
      if (world_.is_remote(home)) {
        world_.remote->put(home, reinterpret_cast<const std::byte*>(partial(home, dims_.rank, 0)),
                           call_.tokens[home] * dims_.row_bytes());
      }
      world_.signal(home, slot(home, dims_.rank), call_.epoch);
    }
    for (std::int32_t source = 0; source < dims_.world; ++source) wait_for_partials(source);
    for (std::int32_t t = 0; t < call_.tokens[dims_.rank]; ++t) sum_home(t);
  }

 private:
  void wait_for_partials(std::int32_t source) const {
    std::uint32_t* const from = slot(dims_.rank, source);
    if (has_reached(from, call_.epoch)) return;
    world_.progress->set(dims_.rank, {call_.epoch, Stage::reference, source});
    if (wait_until(world_, [&] { return has_reached(from, call_.epoch); })) {
      world_.progress->set(dims_.rank, {call_.epoch, Stage::reference, -1});
      return;
    }
    const std::uint32_t seen = std::atomic_ref(*from).load(std::memory_order_relaxed);
    world_.report_failure(
        ErrorCode::timeout,
        fmt::format("[reference] rank {} waited {} ms for the partials of rank {}, expected epoch "
                    "{}, seen {}; {}",
                    dims_.rank,
                    std::chrono::duration_cast<std::chrono::milliseconds>(world_.timeout).count(),
                    source, call_.epoch, seen, world_.progress->describe_cause(source)));
    world_.failures->rethrow(dims_.rank);
  }

  const std::byte* at(std::int32_t rank, std::int64_t offset) const {
    return call_.peers[rank] + offset;
  }
  // The first slot of a source's range in the home's workspace serves all of its tokens.
  std::uint32_t* slot(std::int32_t home, std::int32_t source) const {
    auto* slots = reinterpret_cast<std::uint32_t*>(call_.peers[home] + call_.layout.combine_slots);
    return slots + combine_slot(source, 0, 0, 1, 1);
  }
  const std::uint16_t* ids(std::int32_t home, std::int32_t token) const {
    const auto* all = at(home, call_.layout.ids[call_.epoch & 1U]);
    return reinterpret_cast<const std::uint16_t*>(all) + std::int64_t{token} * dims_.topk;
  }
  bool owned_by(std::uint16_t id, std::int32_t rank) const {
    return id < dims_.num_experts && call_.ep_rank_of[id] == rank / dims_.tp;
  }
  T* partial(std::int32_t home, std::int32_t source, std::int32_t token) const {
    return reinterpret_cast<T*>(call_.peers[home] + call_.layout.combine) +
           (source * dims_.max_tokens + token) * dims_.hidden;
  }

  static double dot(const T* a, const T* b, std::int64_t count) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      sum += double{to_float(a[i])} * double{to_float(b[i])};
    }
    return sum;
  }

  const T* row(const ExpertMatrices& matrices, std::int32_t expert, std::int64_t index) const {
    return static_cast<const T*>(matrices.expert(expert, call_.desc->dtype)) +
           index * matrices.row_stride;
  }

  // sum_ += weight * expert(x), in double throughout.
  void add_expert(std::int32_t expert, const T* x, double weight) {
    const bool before = call_.desc->weight_position == WeightPosition::before_down;
    for (std::int64_t i = 0; i < dims_.inter_local; ++i) {
      double act = dot(row(call_.weights.up, expert, i), x, dims_.hidden);
      if (call_.desc->gated) {
        act *= activate(call_.desc->activation,
                        dot(row(call_.weights.gate, expert, i), x, dims_.hidden));
      } else {
        act = activate(call_.desc->activation, act);
      }
      acts_[i] = before ? act * weight : act;
    }
    for (std::int64_t h = 0; h < dims_.hidden; ++h) {
      const T* down = row(call_.weights.down, expert, h);
      double out = 0;
      for (std::int64_t i = 0; i < dims_.inter_local; ++i) {
        out += acts_[i] * double{to_float(down[i])};
      }
      sum_[h] += before ? out : weight * out;
    }
  }

  void write_partial(std::int32_t home, std::int32_t token) {
    const auto* x = reinterpret_cast<const T*>(at(home, call_.layout.x)) + token * dims_.hidden;
    const auto* weights =
        reinterpret_cast<const float*>(at(home, call_.layout.weights[call_.epoch & 1U])) +
        std::int64_t{token} * dims_.topk;
    bool needed = false;
    std::fill(sum_.begin(), sum_.end(), 0.0);
    for (std::int32_t k = 0; k < dims_.topk; ++k) {
      const std::uint16_t id = ids(home, token)[k];
      if (!owned_by(id, dims_.rank)) continue;
      add_expert(call_.local_of[id], x, double{weights[k]});
      needed = true;
    }
    if (needed) round_to(partial(home, dims_.rank, token));
  }

  void sum_home(std::int32_t token) {
    std::fill(sum_.begin(), sum_.end(), 0.0);
    for (std::int32_t source = 0; source < dims_.world; ++source) {
      bool sent = false;
      for (std::int32_t k = 0; k < dims_.topk; ++k) {
        sent = sent || owned_by(ids(dims_.rank, token)[k], source);
      }
      if (!sent) continue;
      const T* from = partial(dims_.rank, source, token);
      for (std::int64_t h = 0; h < dims_.hidden; ++h) sum_[h] += double{to_float(from[h])};
    }
    round_to(static_cast<T*>(call_.y.data) + token * call_.y.row_stride);
  }

  void round_to(T* to) const {
    for (std::int64_t h = 0; h < dims_.hidden; ++h) {
      to[h] = from_float<T>(static_cast<float>(sum_[h]));
    }
  }

  const ReferenceCall& call_;
  const LayerDims& dims_;
  const WorldView& world_;
  std::vector<double> acts_;  // [I/TP]
  std::vector<double> sum_;   // [H]
};

}  // namespace

void run_reference(const ReferenceCall& call, const WorldView& world) {
  if (call.desc->dtype == DType::f32) {
    Reference<float>(call, world).run();
  } else {
    Reference<bf16>(call, world).run();
  }
}

}  // namespace comet
