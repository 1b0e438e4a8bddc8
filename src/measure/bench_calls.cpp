// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_calls.hpp"

namespace comet {

BenchCalls::BenchCalls(World& world, MoeLayer& layer, BenchInputs& inputs, bool graphs)
    : world_(world),
      layer_(layer),
      inputs_(inputs),
      on_device_(world.backend() == Backend::cuda),
      graphs_(on_device_ && graphs) {}

BenchCalls::Key BenchCalls::key_of(const ForwardOptions& options) const {
  return {options.schedule,  options.groups,       options.panel,
          options.chunk,     options.n_c_dispatch, options.n_c_combine,
          options.placement, options.waves,        copy_};
}

void BenchCalls::prepare(const ForwardOptions& options, std::size_t copy) {
  copy_ = copy;
  if (!graphs_) return;
  if (options.trace != nullptr) {
    make_room_for_traces(options);
    traced_.emplace(world_, [&] { forward(options); });
  } else if (!captured_.contains(key_of(options))) {
    captured_.try_emplace(key_of(options), world_, [&] { forward(options); });
  }
}

// A device's first trace allocates its memory, which a capture forbids.
void BenchCalls::make_room_for_traces(ForwardOptions options) {
  Trace unused;
  options.trace = &unused;
  make_plain(options);
  world_.barrier();  // no rank's call runs
}

CallStats BenchCalls::make(const ForwardOptions& options) {
  if (!on_device_) return forward(options);
  if (graphs_) {
    (options.trace != nullptr ? *traced_ : captured_.at(key_of(options))).launch();
  } else {
    queue_start_line(world_);
    forward(options);
  }
  return layer_.check();
}

CallStats BenchCalls::make_plain(const ForwardOptions& options) {
  const CallStats stats = forward(options);
  return on_device_ ? layer_.check() : stats;
}

CallStats BenchCalls::forward(const ForwardOptions& options) {
  const BenchInputs::Copy& copy = inputs_.copy(copy_);
  return layer_.forward(copy.x, copy.routing, copy.y, options);
}

}  // namespace comet
