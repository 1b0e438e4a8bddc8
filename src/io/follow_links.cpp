// SPDX-License-Identifier: Apache-2.0
#include "io/follow_links.hpp"

#include <system_error>

namespace comet {

// std::filesystem::canonical refuses a link to a file that is not there yet.
std::vector<std::filesystem::path> link_chain(const std::filesystem::path& path) {
  constexpr std::size_t kMostLinks = 40;  // as Linux
  std::vector<std::filesystem::path> chain = {path};
  while (chain.size() <= kMostLinks) {
    std::error_code error;
    const std::filesystem::path target = std::filesystem::read_symlink(chain.back(), error);
    if (error) break;                                      // most often: no link
    chain.push_back(chain.back().parent_path() / target);  // the target alone, if it is absolute
  }
  return chain;
}

std::filesystem::path follow_links(const std::filesystem::path& path) {
  return link_chain(path).back();
}

}  // namespace comet
