// SPDX-License-Identifier: Apache-2.0
#include "comm/process/process_rendezvous.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.hpp"
#include "base/name_table.hpp"

namespace comet {
namespace {

constexpr NameTable<ProcessRendezvous::Call, 4> kMeetingNames{
    {{ProcessRendezvous::Call::barrier, "barrier"},
     {ProcessRendezvous::Call::allocate, "allocate"},
     {ProcessRendezvous::Call::all_gather, "all_gather"},
     {ProcessRendezvous::Call::set_link, "set_link"}}};

std::string_view name_of_call(const SharedPost& post) {
  return name_of(kMeetingNames, static_cast<ProcessRendezvous::Call>(post.call));
}

}  // namespace

std::uint64_t ProcessRendezvous::meet(const WorldView& view, Call call, const SharedPost& post) {
  if (view.failures->failed()) view.failures->rethrow(view.rank);
  Member& own = control_.member(view.rank);
  const std::uint64_t meeting = ++last_;
  SharedPost& shown = own.posts[meeting % 2];
  shown = post;
  shown.call = static_cast<std::int32_t>(call);

  // Releases the post.
  own.meeting.store(meeting, std::memory_order_seq_cst);
  // Whoever comes rings, even if it misses others: those of other hosts may be seen by its host's
  // ranks already and by itself not yet.
  control_.ring_all();
  if (remote_ != nullptr) remote_->tell_meeting(meeting, shown);
  wait(view, meeting, call);
  for (int rank = 1; rank < control_.size(); ++rank) {
    check(this->post(rank, meeting).call == this->post(0, meeting).call, ErrorCode::mismatch,
          "[world] ranks are in different collective calls: rank 0 in {}, rank {} in {}",
          name_of_call(this->post(0, meeting)), rank, name_of_call(this->post(rank, meeting)));
  }
  return meeting;
}

bool ProcessRendezvous::has_met(std::uint64_t meeting) const noexcept {
  for (int rank = 0; rank < control_.size(); ++rank) {
    if (control_.member(rank).meeting.load(std::memory_order_seq_cst) < meeting) return false;
  }
  return true;
}

void ProcessRendezvous::wait(const WorldView& view, std::uint64_t meeting, Call call) const {
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
                      name_of(kMeetingNames, call), missing));
      view.failures->rethrow(view.rank);
    }
    view.doorbell().sleep(seen, deadline);
  }
}

std::string ProcessRendezvous::missing_ranks(const WorldView& view, std::uint64_t meeting) const {
  std::vector<int> missing;
  for (int rank = 0; rank < control_.size(); ++rank) {
    if (control_.member(rank).meeting.load(std::memory_order_seq_cst) < meeting) {
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
