// SPDX-License-Identifier: Apache-2.0
// comet::Error as exceptions of Python.
#pragma once

#include <nanobind/nanobind.h>

namespace comet::python {

/// Every Error that leaves the module is raised as the class that `comet_moe._errors` has for its
/// code. Called once, when the module starts.
void translate_errors();

}  // namespace comet::python
