// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library. Comet never prints, exits or aborts: every failure that a
// caller can meet arrives as an Error with a code for programs and a sentence for people.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

/// The library. Names in it and in no header under comet/ are internal.
namespace comet {

/// What kind of failure an Error reports, for programs.
enum class ErrorCode {
  invalid_argument,  ///< A size, flag or combination that no call can accept.
  out_of_range,      ///< An id or index outside its allowed range.
  capacity,          ///< A buffer that is too small; the sentence says the needed size.
  io,                ///< The operating system refused a file operation.
  format,            ///< A file that is damaged, truncated, hostile, or of another version.
  mismatch,          ///< Ranks that disagree on something that must be equal.
  timeout,           ///< A bounded wait expired; the sentence says who waited for whom.
  peer,              ///< Another rank reported a fault; the sentence is that rank's own.
  unsupported,       ///< Valid, but not built or not possible on this machine.
  internal,          ///< A broken invariant of Comet itself: please report it.
};

/// Lower-case name of a code, for example "out_of_range". Never empty.
std::string_view to_string(ErrorCode code) noexcept;

/// Thrown by every function of the public API. `what()` is one sentence of the form
/// "[stage] what: value, allowed values".
class Error : public std::runtime_error {
 public:
  /// `sentence` is what what() returns.
  Error(ErrorCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}

  /// The kind of failure.
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace comet
