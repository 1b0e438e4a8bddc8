// SPDX-License-Identifier: Apache-2.0
// A picture of timelines, one under the other on a common axis of time.
#pragma once

#include <filesystem>
#include <string>

#include "trace/timeline.hpp"

namespace comet {

/// An SVG document, 1200 pixels wide, of about a megabyte at most: the shorter events are and the
/// more rows there are, the more are drawn as one. Throws Error(invalid_argument) on events that do
/// not fit their timeline.
std::string timeline_svg(const TimelineSet& set);

/// The same to a file that appears whole or not at all. Throws Error(io).
void write_timeline_svg(const TimelineSet& set, const std::filesystem::path& path);

}  // namespace comet
