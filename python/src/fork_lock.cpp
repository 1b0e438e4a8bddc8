// SPDX-License-Identifier: Apache-2.0
#include "fork_lock.hpp"

#include <new>

namespace comet::python {
namespace {

std::shared_mutex& fork_mutex() {
  static std::shared_mutex instance;
  return instance;
}

}  // namespace

ForkLock::ForkLock() : lock_(fork_mutex()) {}

void bind_fork_lock(nanobind::module_& module) {
  module.def(
      "before_fork", [] { fork_mutex().lock(); },
      nanobind::call_guard<nanobind::gil_scoped_release>());
  module.def("after_fork_in_parent", [] { fork_mutex().unlock(); });
  // Threads that waited for it in the parent are counted in it and do not exist here.
  module.def("after_fork_in_child", [] { new (&fork_mutex()) std::shared_mutex; });
}

}  // namespace comet::python
