// SPDX-License-Identifier: Apache-2.0
#include "kept_layers.hpp"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <bit>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "comet/desc.hpp"
#include "comet/weights.hpp"

namespace comet::python {
namespace {

constexpr std::size_t kKeptAtFirst = 8;
constexpr std::size_t kMostKept = 1024;
constexpr std::size_t kMostRemembered = 1024;
constexpr std::int64_t kMostBytes = std::int64_t{8} << 30;
// That a kept layer is made for. Tiles of one for many tokens are larger than a few can fill.
constexpr std::int64_t kLeastTokens = 64;
constexpr std::size_t kKeyLength = 12;  // of a matrix, about

// All of the process.
struct Registry {
  std::mutex mutex;
  std::int64_t last_handle = 0;
  std::map<std::int64_t, KeptLayers*> all;
};
Registry& registry() {
  static Registry instance;
  return instance;
}

// What tells arrays from others that live: address, shape, strides, type and device.
void append(std::vector<std::int64_t>& key, const nb::list& arrays, const char* name) {
  key.push_back(static_cast<std::int64_t>(arrays.size()));
  for (const nb::handle each : arrays) {
    const Array array(each, name, Use::read);
    key.push_back(std::bit_cast<std::int64_t>(array.data()));
    key.push_back(static_cast<std::int64_t>(array.axes()));
    for (std::size_t axis = 0; axis < array.axes(); ++axis) {
      key.push_back(array.shape(axis));
      key.push_back(array.stride(axis));
    }
    key.push_back(array.type().code << 16 | array.type().bits << 8 | array.type().lanes);
    key.push_back(array.device().device_type);
    key.push_back(array.device().device_id);
  }
}

// Most tokens of a kept layer for calls of so many: a power of two, so that a batch that grows
// makes few layers.
std::int64_t kept_tokens(std::int64_t tokens) {
  return static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max(tokens, kLeastTokens))));
}

}  // namespace

KeptLayers::KeptLayers(std::shared_ptr<WorldPart> world)
    : world_(std::move(world)), most_(kKeptAtFirst), most_bytes_(kMostBytes) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  handle_ = ++known.last_handle;
  known.all.emplace(handle_, this);
}

KeptLayers::~KeptLayers() {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  known.all.erase(handle_);
}

KeptLayers* KeptLayers::of(std::int64_t handle) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  const auto found = known.all.find(handle);
  return found == known.all.end() ? nullptr : found->second;
}

KeptLayers::Key KeptLayers::key_of(std::int64_t tokens, std::int64_t topk, const nb::list& w13,
                                   const nb::list& w2, const LayerChoice& choice) {
  Key key;
  key.reserve(kKeyLength * (w13.size() + w2.size()));
  append(key, w13, "w13");
  append(key, w2, "w2");
  key.insert(key.end(), {topk, choice.ep, choice.tp,
                         static_cast<std::int64_t>(parse_activation(choice.activation)),
                         static_cast<std::int64_t>(parse_gate_layout(choice.gate_layout)),
                         static_cast<std::int64_t>(parse_weight_position(choice.weight_position)),
                         tokens <= kLeastTokens ? 1 : 0});
  return key;
}

std::shared_ptr<Layer> KeptLayers::find(std::int64_t tokens, const Key& key) {
  const std::lock_guard lock(mutex_);
  // A model's layers take turns: what was not used for longest is first, and looked for first.
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&key](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) return nullptr;
  std::rotate(found, found + 1, entries_.end());
  const std::shared_ptr<Layer>& layer = entries_.back().layer;
  return layer->max_tokens() < tokens ? nullptr : layer;
}

std::shared_ptr<Layer> KeptLayers::find(std::int64_t tokens, std::int64_t topk, const nb::list& w13,
                                        const nb::list& w2, const LayerChoice& choice) {
  return find(tokens, key_of(tokens, topk, w13, w2, choice));
}

std::shared_ptr<Layer> KeptLayers::find_or_make(std::int64_t tokens, std::int64_t topk,
                                                const nb::list& w13, const nb::list& w2,
                                                const LayerChoice& choice) {
  Key key = key_of(tokens, topk, w13, w2, choice);
  if (std::shared_ptr<Layer> found = find(tokens, key)) return found;
  const std::int64_t ep = choice.ep != 0 || choice.tp < 1 ? choice.ep : world_->size() / choice.tp;
  auto layer = std::make_shared<Layer>(world_, w13, w2,
                                       LayerSpec{.topk = topk,
                                                 .max_tokens = kept_tokens(tokens),
                                                 .ep = ep,
                                                 .tp = choice.tp,
                                                 .activation = choice.activation,
                                                 .gate_layout = choice.gate_layout,
                                                 .weight_position = choice.weight_position});
  // Dropped layers die at the end, since that may release Python's lock.
  const std::vector<Entry> dropped = keep(std::move(key), layer);
  return layer;
}

// Those that are dropped for it.
std::vector<KeptLayers::Entry> KeptLayers::keep(Key key, const std::shared_ptr<Layer>& layer) {
  const std::lock_guard lock(mutex_);
  const auto has_key = [&key](const Entry& entry) { return entry.key == key; };
  std::vector<Entry> dropped;
  const auto same = std::find_if(entries_.begin(), entries_.end(), has_key);
  if (same != entries_.end()) {
    dropped.push_back(std::move(*same));
    entries_.erase(same);
  }
  const auto missed = std::find(dropped_.begin(), dropped_.end(), key);
  if (missed != dropped_.end()) {
    dropped_.erase(missed);
    most_ = std::min(most_ + 1, kMostKept);
  }
  while (is_full(*layer)) {
    dropped_.push_back(entries_.front().key);
    if (dropped_.size() > kMostRemembered) dropped_.pop_front();
    dropped.push_back(std::move(entries_.front()));
    entries_.erase(entries_.begin());
  }
  entries_.push_back({std::move(key), layer});
  return dropped;
}

// Whether one must be dropped for the other.
bool KeptLayers::is_full(const Layer& other) const noexcept {
  if (entries_.size() < kKeptAtFirst) return false;
  std::int64_t bytes = other.local_bytes();  // of a rank
  for (const Entry& entry : entries_) bytes += entry.layer->local_bytes();
  return entries_.size() >= most_ || bytes * world_->num_here() > most_bytes_;
}

std::size_t KeptLayers::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

void KeptLayers::forget(std::int64_t address) {
  constexpr std::size_t kFirstAddress = 1;  // of a key, see append
  std::vector<Entry> dropped;               // they die at the end, as in find_or_make
  const std::lock_guard lock(mutex_);
  const auto kept_end = std::stable_partition(
      entries_.begin(), entries_.end(),
      [address](const Entry& entry) { return entry.key[kFirstAddress] != address; });
  dropped.assign(std::make_move_iterator(kept_end), std::make_move_iterator(entries_.end()));
  entries_.erase(kept_end, entries_.end());
  most_ = std::max(kKeptAtFirst, most_ - std::min(most_, dropped.size()));
}

namespace {

// Writes out by a layer that the world with this handle keeps and returns true, or returns false if
// a layer or a dense copy must be made, or if no world has the handle.
bool call_kept(nb::handle x, nb::handle ids, nb::handle weights, nb::handle out,
               const nb::list& w13, const nb::list& w2, std::int64_t world, std::int64_t ep,
               std::int64_t tp, std::string activation, std::string gate_layout,
               std::string weight_position, std::string schedule, std::int64_t groups) {
  KeptLayers* const kept = KeptLayers::of(world);
  if (kept == nullptr) return false;
  const CallArrays arrays(x, ids, weights, out);
  const std::shared_ptr<Layer> layer = kept->find(arrays.tokens(), arrays.topk(), w13, w2,
                                                  {.ep = ep,
                                                   .tp = tp,
                                                   .activation = std::move(activation),
                                                   .gate_layout = std::move(gate_layout),
                                                   .weight_position = std::move(weight_position)});
  if (layer == nullptr || !arrays.are_dense()) return false;
  layer->forward(arrays, {.schedule = std::move(schedule), .groups = groups});
  return true;
}

}  // namespace

void bind_kept_layers(nb::module_& module) {
  nb::class_<KeptLayers>(module, "KeptLayers")
      .def(nb::init<std::shared_ptr<WorldPart>>())
      .def_prop_ro("handle", &KeptLayers::handle)
      .def("__len__", &KeptLayers::size)
      .def("forget", &KeptLayers::forget, nb::arg("address"))
      .def_prop_rw("most_bytes", &KeptLayers::most_bytes, &KeptLayers::set_most_bytes)
      .def("find_or_make",
           [](KeptLayers& kept, std::int64_t tokens, std::int64_t topk, const nb::list& w13,
              const nb::list& w2, std::int64_t ep, std::int64_t tp, std::string activation,
              std::string gate_layout, std::string weight_position) {
             return kept.find_or_make(tokens, topk, w13, w2,
                                      {.ep = ep,
                                       .tp = tp,
                                       .activation = std::move(activation),
                                       .gate_layout = std::move(gate_layout),
                                       .weight_position = std::move(weight_position)});
           });
  module.def("call_kept", &call_kept);
  module.def("kept_tokens", &kept_tokens, nb::arg("tokens"));
}

}  // namespace comet::python
