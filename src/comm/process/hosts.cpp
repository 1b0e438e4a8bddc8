// SPDX-License-Identifier: Apache-2.0
#include "comm/process/hosts.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <string>

namespace comet {
namespace {

using HostName = std::array<char, 256>;

// The kernel's boot, the namespace in which process numbers, by which memory is found, hold, and
// what the group says.
HostName describe_host(const ProcessGroup& group) {
  std::string text;
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::getline(boot, text);
  std::array<char, 64> pids{};
  const ssize_t length = ::readlink("/proc/self/ns/pid", pids.data(), pids.size());
  if (length > 0) text.append(pids.data(), static_cast<std::size_t>(length));
  text += group.host();
  HostName name{};
  std::copy_n(text.begin(), std::min(text.size(), name.size()), name.begin());
  return name;
}

}  // namespace

Hosts::Hosts(ProcessGroup& group) {
  const HostName own = describe_host(group);
  std::vector<HostName> all(static_cast<std::size_t>(group.size()));
  group.all_gather(&own, all.data(), sizeof(own));
  for (const HostName& host : all) is_here_.push_back(host == own);
  num_ = static_cast<int>(std::set<HostName>(all.begin(), all.end()).size());
  first_here_ =
      static_cast<int>(std::find(is_here_.begin(), is_here_.end(), true) - is_here_.begin());
}

}  // namespace comet
