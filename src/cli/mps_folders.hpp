// SPDX-License-Identifier: Apache-2.0
// The folders of MPS daemons that `comet launch` starts: private, among the temporary files, named
// after the launching process, so that later launches see which of them it has left behind.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <vector>

namespace comet::cli {

/// A new folder of this process. Throws Error(io), and Error(invalid_argument) if TMPDIR is too
/// long for the sockets in it.
std::filesystem::path make_mps_folder();

/// Folders of this user whose launching processes live no more. Those of processes that are not
/// numbered as ours, in another container for example, are nobody's to judge and left out.
std::vector<std::filesystem::path> find_abandoned_mps_folders();

/// The daemon that still runs for a folder, though its launching process is gone; 0 if none does.
pid_t find_mps_daemon(const std::filesystem::path& folder);

}  // namespace comet::cli
