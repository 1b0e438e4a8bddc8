// SPDX-License-Identifier: Apache-2.0
// The file that a name stands for, where the name may be a symbolic link.
#pragma once

#include <filesystem>
#include <vector>

namespace comet {

/// `path`, and while the last is a symbolic link what it leads to, be that there or not; at most 41
/// names, so links that lead in a circle end with a link.
std::vector<std::filesystem::path> link_chain(const std::filesystem::path& path);

/// The file that reading `path` would open, or writing it would make: the last of the chain.
std::filesystem::path follow_links(const std::filesystem::path& path);

}  // namespace comet
