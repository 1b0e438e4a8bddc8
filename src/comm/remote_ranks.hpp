// SPDX-License-Identifier: Apache-2.0
// RemoteRanks: what workers do with ranks whose memory they cannot reach.
#pragma once

#include <cstddef>
#include <cstdint>

namespace comet {

/// Ranks of other hosts. Of their parts of symmetric buffers this process has mirrors, which nobody
/// but the two processes at the ends of a connection writes. Thread-safe.
class RemoteRanks {
 public:
  RemoteRanks() = default;
  virtual ~RemoteRanks() = default;
  RemoteRanks(const RemoteRanks&) = delete;
  RemoteRanks& operator=(const RemoteRanks&) = delete;

  virtual bool is_remote(int rank) const noexcept = 0;

  /// Makes the `bytes` bytes at `data`, which lie in some rank's part of a symmetric buffer as this
  /// process has it, the same in that part as `rank` has it: of one's own part the other's mirror
  /// changes, of the mirror of its part its memory. Returns at once; the bytes must keep their
  /// values until `rank` has shown that it got them, or until a recovery.
  virtual void put(int rank, const std::byte* data, std::int64_t bytes) = 0;

  /// Once all puts to `rank` before it have arrived: stores `value` with release order to what in
  /// `rank`'s memory is at `slot` in the mirror of it, and wakes its sleepers.
  virtual void signal(int rank, const std::uint32_t* slot, std::uint32_t value) = 0;

  /// Bytes of all puts so far, without what frames them.
  virtual std::int64_t bytes_put() const noexcept = 0;
};

}  // namespace comet
