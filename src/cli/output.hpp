// SPDX-License-Identifier: Apache-2.0
// Standard output of `comet`: a result that could not be written is an error, not a silent loss.
#pragma once

#include <string_view>

namespace comet::cli {

/// Gives descriptors 0, 1 and 2 to /dev/null, read-only, where the caller closed them: a file that
/// is opened later must not become the standard output, and writes there must still fail.
void reserve_standard_streams() noexcept;

/// From now on print() writes nothing: another process says the same.
void mute_output() noexcept;
/// Whether this process is to be silent, on standard error about its progress too.
bool is_output_muted() noexcept;

/// Writes to standard output. Throws Error(io) if that fails.
void print(std::string_view text);

/// Flushes standard output. Throws Error(io) if that, or any write before, failed.
void finish_output();

/// One line "comet: <sentence>" on standard error; line breaks in the sentence become blanks.
void print_error(std::string_view sentence) noexcept;

}  // namespace comet::cli
