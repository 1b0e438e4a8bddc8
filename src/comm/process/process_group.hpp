// SPDX-License-Identifier: Apache-2.0
// ProcessGroup: processes as whoever started them knows them.
#pragma once

#include <cstddef>
#include <string_view>

namespace comet {

/// What a ProcessWorld begins with; all else goes through memory and connections of its own. One
/// thread at a time.
class ProcessGroup {
 public:
  ProcessGroup() = default;
  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  virtual std::string_view kind() const noexcept = 0;  ///< Of the world: "mpi".
  virtual int rank() const noexcept = 0;
  virtual int size() const noexcept = 0;

  /// Ranks to which this says something different share no memory, though their system would let
  /// them: to try on one host what happens between several.
  virtual std::string_view host() const noexcept { return {}; }

  /// Collective: every rank's `bytes` bytes, in rank order, to `out` [size * bytes]. Waits as long
  /// as its starter lets it, so it is called while a world is made and never after.
  virtual void all_gather(const void* in, void* out, std::size_t bytes) = 0;

  /// The last call, unless the world has failed: the starter's own end then might wait for ranks
  /// that are gone.
  virtual void leave() noexcept = 0;
};

}  // namespace comet
