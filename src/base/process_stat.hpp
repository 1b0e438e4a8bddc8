// SPDX-License-Identifier: Apache-2.0
// What Linux says of a process of this machine.
#pragma once

#include <string>
#include <string_view>

namespace comet {

/// Field `number` of /proc/<pid>/stat, counted from 1 as proc(5) does, from 3 on; empty if there is
/// no such process. Any thread.
std::string process_stat(std::string_view pid, int number);

/// Whether the process has been stopped by a signal or a debugger. False if there is none.
bool is_process_stopped(int pid);

}  // namespace comet
