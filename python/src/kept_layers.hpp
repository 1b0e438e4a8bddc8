// SPDX-License-Identifier: Apache-2.0
// KeptLayers: the layers that comet_moe.moe makes by itself, found again by their weights'
// addresses.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "layer.hpp"

namespace comet::python {

/// What tells a kept layer from others but for its weights.
struct LayerChoice {
  std::int64_t ep = 0;  ///< 0: all that tp leaves.
  std::int64_t tp = 1;
  std::string activation;
  std::string gate_layout;
  std::string weight_position;
};

/// A world's. Any thread may use it: arrays are looked at, and layers die, while nothing is locked,
/// since both may run Python's code and let other threads in.
class KeptLayers {
 public:
  explicit KeptLayers(std::shared_ptr<WorldPart> world);
  ~KeptLayers();
  KeptLayers(const KeptLayers&) = delete;
  KeptLayers& operator=(const KeptLayers&) = delete;

  /// Those with this handle, or null. They live as long as their world, which the caller holds.
  static KeptLayers* of(std::int64_t handle);

  /// Names them to the operator of PyTorch; no others of the process have had it.
  std::int64_t handle() const noexcept { return handle_; }
  /// The layer with these weights for so many tokens, or null.
  std::shared_ptr<Layer> find(std::int64_t tokens, std::int64_t topk, const nb::list& w13,
                              const nb::list& w2, const LayerChoice& choice);
  /// The same, made if there is none: it keeps the weights. Calls of up to 64 tokens have a layer
  /// of their own, whose tiles fit them. The last used layers are kept: 8 at first, and one more
  /// whenever one that was dropped is asked for again, so that a model's layers take turns without
  /// being made anew, as long as all together have no more than most_bytes(). Python's lock is
  /// released while a layer is made, so callers take turns by another.
  std::shared_ptr<Layer> find_or_make(std::int64_t tokens, std::int64_t topk, const nb::list& w13,
                                      const nb::list& w2, const LayerChoice& choice);
  /// Drops the layers whose first experts' w13 lies there.
  void forget(std::int64_t address);
  std::size_t size() const;
  /// Memory that kept layers may have where they are more than 8, without their weights and the
  /// world's workspace.
  std::int64_t most_bytes() const noexcept { return most_bytes_.load(); }
  void set_most_bytes(std::int64_t bytes) noexcept { most_bytes_.store(bytes); }

 private:
  using Key = std::vector<std::int64_t>;
  struct Entry {
    Key key;
    std::shared_ptr<Layer> layer;
  };

  static Key key_of(std::int64_t tokens, std::int64_t topk, const nb::list& w13, const nb::list& w2,
                    const LayerChoice& choice);
  std::shared_ptr<Layer> find(std::int64_t tokens, const Key& key);
  std::vector<Entry> keep(Key key, const std::shared_ptr<Layer>& layer);
  bool is_full(const Layer& other) const noexcept;

  std::shared_ptr<WorldPart> world_;
  std::int64_t handle_;
  mutable std::mutex mutex_;  // of what follows; never waits for Python's lock
  std::size_t most_;          // that are kept
  std::atomic<std::int64_t> most_bytes_;
  std::vector<Entry> entries_;  // the last used one last
  std::deque<Key> dropped_;     // to make room, the last one last
};

/// Adds the class to the module.
void bind_kept_layers(nb::module_& module);

}  // namespace comet::python
