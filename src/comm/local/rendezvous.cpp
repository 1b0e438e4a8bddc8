// SPDX-License-Identifier: Apache-2.0
#include "comm/local/rendezvous.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "base/name_table.hpp"

namespace comet {
namespace {

constexpr NameTable<Post::Call, 4> kCallNames = {{{Post::Call::barrier, "barrier"},
                                                  {Post::Call::allocate, "allocate"},
                                                  {Post::Call::all_gather, "all_gather"},
                                                  {Post::Call::set_link, "set_link"}}};

}  // namespace

Rendezvous::Rendezvous(int size) : size_(size), arrivals_(std::make_unique<Arrival[]>(size)) {
  for (auto& posts : posts_) posts.resize(size);
}

std::span<const Post> Rendezvous::meet(const WorldView& view, Post post) {
  if (view.failures->failed()) view.failures->rethrow(view.rank);
  auto& arrived = arrivals_[view.rank].num_meetings;
  const std::uint64_t meeting = arrived.load(std::memory_order_relaxed) + 1;
  const Post::Call call = post.call;
  std::vector<Post>& posts = posts_[meeting % 2];
  posts[view.rank] = std::move(post);

  // Releases the post. Sequentially consistent, as are the loads of has_met: the last rank in their
  // order sees all others and rings, so none is left asleep.
  arrived.store(meeting, std::memory_order_seq_cst);
  if (has_met(meeting)) {
    for (int rank = 0; rank < size_; ++rank) {
      if (rank != view.rank) view.doorbells[rank]->ring();
    }
  } else {
    wait(view, meeting, call);
  }

  const auto other = std::find_if(posts.begin(), posts.end(),
                                  [&](const Post& p) { return p.call != posts[0].call; });
  check(other == posts.end(), ErrorCode::mismatch,
        "[world] ranks are in different collective calls: rank 0 in {}, rank {} in {}",
        name_of(kCallNames, posts[0].call), other - posts.begin(),
        name_of(kCallNames, other == posts.end() ? posts[0].call : other->call));
  return posts;
}

void Rendezvous::reset() {
  for (int rank = 0; rank < size_; ++rank) {
    arrivals_[rank].num_meetings.store(0, std::memory_order_seq_cst);
  }
}

bool Rendezvous::has_met(std::uint64_t meeting) const noexcept {
  return std::all_of(arrivals_.get(), arrivals_.get() + size_, [&](const Arrival& arrival) {
    return arrival.num_meetings.load(std::memory_order_seq_cst) >= meeting;
  });
}

void Rendezvous::wait(const WorldView& view, std::uint64_t meeting, Post::Call call) {
  const auto deadline = std::chrono::steady_clock::now() + view.timeout;
  while (true) {
    const std::uint32_t seen = view.doorbell().value();
    if (has_met(meeting)) return;
    if (view.failures->failed()) view.failures->rethrow(view.rank);
    if (std::chrono::steady_clock::now() >= deadline) {
      const std::string missing = missing_ranks(view, meeting);
      if (missing.empty()) return;  // The last one came between the two looks.
      using std::chrono::milliseconds;
      view.report_failure(
          ErrorCode::timeout,
          fmt::format("[world] rank {} waited {} ms in {} for {}", view.rank,
                      std::chrono::duration_cast<milliseconds>(view.timeout).count(),
                      name_of(kCallNames, call), missing));
      view.failures->rethrow(view.rank);
    }
    view.doorbell().sleep(seen, deadline);
  }
}

std::string Rendezvous::missing_ranks(const WorldView& view, std::uint64_t meeting) const {
  std::vector<int> missing;
  for (int rank = 0; rank < size_; ++rank) {
    if (arrivals_[rank].num_meetings.load(std::memory_order_seq_cst) < meeting) {
      missing.push_back(rank);
    }
  }
  if (missing.empty()) return {};
  std::string text =
      fmt::format("{} {}", missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "));
  // One that is still in a call may itself be held up by another.
  if (view.progress->get(missing[0]).stage != Stage::idle) {
    text += "; " + view.progress->describe_cause(missing[0]);
  }
  return text;
}

}  // namespace comet
