// SPDX-License-Identifier: Apache-2.0
#include "comm/failure_board.hpp"

namespace comet {

bool FailureBoard::report(int rank, ErrorCode code, const std::string& sentence) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (record_) return false;
  record_ = Record{rank, code, sentence};
  if (word_ != nullptr) {
    const std::atomic_ref word(*word_);
    std::uint32_t none = 0;
    word.compare_exchange_strong(none, word_value_);  // a kernel may have said more
  }
  failed_.store(true, std::memory_order_release);
  return true;
}

void FailureBoard::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  record_.reset();
  failed_.store(false, std::memory_order_release);
}

void FailureBoard::rethrow(int rank) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!record_) throw Error(ErrorCode::internal, "[world] rethrow: no failure was recorded");
  const bool own_code = record_->rank == rank || record_->code == ErrorCode::timeout;
  throw Error(own_code ? record_->code : ErrorCode::peer, record_->sentence);
}

}  // namespace comet
