// SPDX-License-Identifier: Apache-2.0
#include "comm/local/local_world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "base/env.hpp"
#include "comm/link_spec.hpp"

namespace comet {
namespace {

constexpr int kMaxSize = 1024;
constexpr std::chrono::milliseconds kMaxTimeout(86'400'000);

// Every rank sees the same posts, so either all ranks throw or none.
void check_equal_bytes(std::span<const Post> posts, std::string_view call) {
  const bool equal = std::all_of(posts.begin(), posts.end(),
                                 [&](const Post& post) { return post.bytes == posts[0].bytes; });
  if (equal) return;
  std::vector<std::size_t> sizes;
  for (const Post& post : posts) sizes.push_back(post.bytes);
  fail(ErrorCode::mismatch, "[world] bytes of {} differ between ranks: {} in rank order, one size",
       call, fmt::join(sizes, ", "));
}

}  // namespace

LocalState::LocalState(int size, const LocalWorldOptions& options)
    : devices(options.backend == Backend::cuda ? make_device_ranks(size, options) : nullptr),
      doorbells(std::make_unique<Doorbell[]>(size)),
      link(size),
      progress(size, devices ? devices->progress_words() : nullptr),
      rendezvous(size),
      recovery(size) {
  for (int rank = 0; rank < size; ++rank) doorbell_pointers.push_back(&doorbells[rank]);
  if (devices) failures.mirror(devices->failed_word(), kHostFailed);
  set_pace(options.link);
}

void LocalState::set_pace(const LinkSpec& spec) {
  link.set_rate(pacing_rate(spec));
  if (devices) devices->set_pace(pacing_rate(spec));
}

LocalWorld::LocalWorld(std::shared_ptr<LocalState> state, int rank,
                       const LocalWorldOptions& options)
    : state_(std::move(state)),
      backend_(options.backend),
      link_(options.link),
      timeout_(options.timeout) {
  view_.rank = rank;
  view_.size = static_cast<int>(state_->doorbell_pointers.size());
  view_.doorbells = state_->doorbell_pointers.data();
  view_.link = &state_->link;
  view_.failures = &state_->failures;
  view_.progress = &state_->progress;
  view_.device = state_->devices ? &state_->devices->rank(rank) : nullptr;
  view_.timeout = timeout_;
}

int LocalWorld::device() const noexcept {
  return view_.device != nullptr ? view_.device->device() : -1;
}

void LocalWorld::fork_from(void* stream) {
  if (view_.device != nullptr) view_.device->fork_from(stream);
}

void LocalWorld::join_to(void* stream) {
  if (view_.device != nullptr) view_.device->join_to(stream);
}

void* LocalWorld::stream() const noexcept {
  return view_.device != nullptr ? view_.device->stream() : nullptr;
}

std::byte* LocalWorld::map(std::size_t bytes) {
  return state_->devices ? state_->devices->allocate_symmetric(rank(), bytes)
                         : state_->memory.map(bytes);
}

SymmetricBuffer LocalWorld::allocate(std::size_t bytes) {
  Post post;
  post.call = Post::Call::allocate;
  post.bytes = bytes;
  post.memory = map(bytes);
  std::byte* const local = post.memory;
  try {
    const std::span<const Post> posts = state_->rendezvous.meet(view_, std::move(post));
    check_equal_bytes(posts, "allocate");
    SymmetricBuffer buffer{local, {}, bytes};
    for (int rank = 0; rank < size(); ++rank) {
      check(posts[rank].memory != nullptr, ErrorCode::capacity,
            "[world] out of memory: rank {} needs {} bytes", rank, bytes);
      buffer.peers.push_back(posts[rank].memory);
    }
    return buffer;
  } catch (const Error& error) {
    // Ranks that agree on the failure leave the buffer alone; after an expired wait a late rank may
    // still get it, so it stays.
    // Nor is device memory given back: freeing it would wait for kernels of other ranks.
    if (!state_->devices && !state_->failures.failed()) state_->memory.unmap(local);
    throw;
  }
}

void LocalWorld::barrier() { state_->rendezvous.meet(view_, Post{}); }

void LocalWorld::all_gather(const void* in, void* out, std::size_t bytes) {
  Post post;
  post.call = Post::Call::all_gather;
  post.bytes = bytes;
  const auto* const source = static_cast<const std::byte*>(in);
  if (bytes > 0) post.payload.assign(source, source + bytes);
  const std::span<const Post> posts = state_->rendezvous.meet(view_, std::move(post));
  check_equal_bytes(posts, "all_gather");
  auto* destination = static_cast<std::byte*>(out);
  for (const Post& peer : posts) {
    destination = std::copy(peer.payload.begin(), peer.payload.end(), destination);
  }
}

void LocalWorld::set_link(const LinkSpec& link) {
  Post post;
  post.call = Post::Call::set_link;
  post.link = link;
  // The first meeting proves that no rank is using the old link, the second that the new one is
  // set.
  const std::span<const Post> posts = state_->rendezvous.meet(view_, post);
  for (int rank = 1; rank < size(); ++rank) {
    check(is_same_link(posts[rank].link, posts[0].link), ErrorCode::mismatch,
          "[world] links differ between ranks: rank 0 has {}, rank {} has {}",
          to_string(posts[0].link), rank, to_string(posts[rank].link));
  }
  check_link(link, backend_);
  check((link.kind == LinkSpec::Kind::host) == (link_.kind == LinkSpec::Kind::host),
        ErrorCode::invalid_argument,
        "[world] link {} to {}: symmetric memory lies on the host from the start, or never",
        to_string(link_), to_string(link));
  if (rank() == 0) state_->set_pace(link);
  link_ = link;
  state_->rendezvous.meet(view_, post);
}

void LocalWorld::recover() {
  std::string stuck;
  if (view_.device != nullptr) {
    view_.device->make_current();
    stuck = view_.device->drain();  // its kernels leave, since the world has failed
    if (stuck.empty()) view_.epoch = view_.device->epoch();
  }
  check(stuck.empty(), ErrorCode::internal, "[world] rank {} cannot recover, its GPU says: {}",
        rank(), stuck);
  view_.epoch = state_->recovery.meet(view_, [this](std::uint32_t epoch) {
    state_->rendezvous.reset();
    state_->set_pace(link_);  // also forgets what was booked
    if (state_->devices) state_->devices->clear_failure();
    for (int rank = 0; rank < size(); ++rank) {
      state_->progress.set(rank, {epoch, Stage::idle, -1});
    }
    state_->failures.clear();
  });
  if (view_.device != nullptr) view_.device->reset(view_.epoch);
}

std::vector<std::unique_ptr<World>> make_local_world(int size, const LocalWorldOptions& options) {
  check(size >= 1 && size <= kMaxSize, ErrorCode::invalid_argument,
        "[world] size: {}, from 1 to {}", size, kMaxSize);
  check(options.timeout.count() >= 0 && options.timeout <= kMaxTimeout, ErrorCode::invalid_argument,
        "[world] timeout: {} ms, from 0 to {}", options.timeout.count(), kMaxTimeout.count());
  check(options.max_gpus >= 0, ErrorCode::invalid_argument, "[world] max_gpus: {}, from 0",
        options.max_gpus);
  check_link(options.link, options.backend);
  LocalWorldOptions complete = options;
  if (complete.timeout.count() == 0) complete.timeout = env().timeout;
  const auto state = std::make_shared<LocalState>(size, complete);
  std::vector<std::unique_ptr<World>> worlds;
  for (int rank = 0; rank < size; ++rank) {
    worlds.push_back(std::make_unique<LocalWorld>(state, rank, complete));
  }
  return worlds;
}

}  // namespace comet
