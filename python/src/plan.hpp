// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace comet::python {

/// Adds `plan` to the module.
void bind_plan(nanobind::module_& module);

}  // namespace comet::python
