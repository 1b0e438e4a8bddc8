// SPDX-License-Identifier: Apache-2.0
// ForkLock: no process is forked while a layer is made or destroyed.
#pragma once

#include <nanobind/nanobind.h>

#include <shared_mutex>

namespace comet::python {

/// Held, without Python's lock, while layers come and go: the library and oneDNN lock caches of the
/// whole process then, which a child that is forked meanwhile would find locked for ever. Python's
/// os.fork() waits for all who hold it.
class ForkLock {
 public:
  ForkLock();

 private:
  std::shared_lock<std::shared_mutex> lock_;
};

/// Adds what os.register_at_fork calls to the module.
void bind_fork_lock(nanobind::module_& module);

}  // namespace comet::python
