// SPDX-License-Identifier: Apache-2.0
#include "comm/process/symmetric_pool.hpp"

#include <algorithm>
#include <iterator>

#include "base/check.hpp"

namespace comet {

std::size_t SymmetricPool::in_units(std::size_t bytes) noexcept {
  return (std::max<std::size_t>(bytes, 1) + kUnit - 1) / kUnit * kUnit;
}

SymmetricPool::Parts::const_iterator SymmetricPool::find_free(std::size_t bytes) const noexcept {
  return std::find_if(free_.begin(), free_.end(),
                      [bytes](const auto& part) { return part.second >= bytes; });
}

void SymmetricPool::add_free(std::byte* begin, std::size_t bytes) {
  auto part = free_.emplace(begin, bytes).first;
  const auto next = std::next(part);
  if (next != free_.end() && begin + bytes == next->first) {
    part->second += next->second;
    free_.erase(next);
  }
  if (part == free_.begin()) return;
  const auto before = std::prev(part);
  if (before->first + before->second != begin) return;
  before->second += part->second;
  free_.erase(part);
}

void SymmetricPool::add(std::byte* begin, std::size_t bytes) {
  if (bytes >= kUnit) add_free(begin, bytes / kUnit * kUnit);
}

bool SymmetricPool::has_room(std::size_t bytes) const noexcept {
  return find_free(in_units(bytes)) != free_.end();
}

std::byte* SymmetricPool::allocate(std::size_t bytes) {
  const std::size_t taken = in_units(bytes);
  const auto found = find_free(taken);
  if (found == free_.end()) return nullptr;
  const auto [begin, size] = *found;
  free_.erase(found);
  if (size > taken) free_.emplace(begin + taken, size - taken);
  used_.emplace(begin, taken);
  return begin;
}

void SymmetricPool::release(std::byte* begin) {
  const auto found = used_.find(begin);
  check(found != used_.end(), ErrorCode::internal, "[world] release: memory that is not in use");
  const std::size_t bytes = found->second;
  used_.erase(found);
  add_free(begin, bytes);
}

}  // namespace comet
