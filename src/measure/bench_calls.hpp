// SPDX-License-Identifier: Apache-2.0
// BenchCalls: how a benchmark makes a layer's calls. All ranks begin together; on GPUs calls are
// replayed from graphs if the case wishes it, so that no schedule pays for its launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <tuple>

#include "comet/layer.hpp"
#include "layer/device_calls.hpp"
#include "measure/bench_inputs.hpp"

namespace comet {

class BenchCalls {
 public:
  /// Borrows all of them. `graphs` has no meaning on cpu.
  BenchCalls(World& world, MoeLayer& layer, BenchInputs& inputs, bool graphs);

  /// Chooses a copy of the inputs, and captures the call unless it has been. To be called when no
  /// rank's call runs; the ranks meet before make().
  void prepare(const ForwardOptions& options, std::size_t copy);
  /// The copy after the one of the last call.
  std::size_t next_copy() const noexcept { return (copy_ + 1) % inputs_.num_copies(); }
  /// The call that was prepared, waited for. Collective.
  CallStats make(const ForwardOptions& options);
  /// A call without graph, start line or rotation. On GPUs MoeLayer::replay_compute repeats the
  /// call that was last queued so, and not what a graph replays.
  CallStats make_plain(const ForwardOptions& options);

  /// y of the last call, in host memory, until the next call of this.
  std::span<const std::byte> y() { return inputs_.read_y(copy_); }

 private:
  // What tells calls of a case apart: the options that a layer reads, and the copy of the inputs.
  using Key = std::tuple<Schedule, std::int64_t, std::int64_t, std::int64_t, int, int, Placement,
                         std::int64_t, std::size_t>;
  Key key_of(const ForwardOptions& options) const;
  CallStats forward(const ForwardOptions& options);
  void make_room_for_traces(ForwardOptions options);

  World& world_;
  MoeLayer& layer_;
  BenchInputs& inputs_;
  const bool on_device_;
  const bool graphs_;
  std::size_t copy_ = 0;
  std::map<Key, CapturedCall> captured_;
  std::optional<CapturedCall>
      traced_;  // the call that was prepared, if it is traced: it knows its trace
};

}  // namespace comet
