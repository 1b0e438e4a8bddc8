// SPDX-License-Identifier: Apache-2.0
#include "errors.hpp"

#include <string>

#include "comet/error.hpp"

namespace comet::python {

namespace nb = nanobind;

void translate_errors() {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Error& error) {
      const std::string code(to_string(error.code()));
      const nb::object kind =
          nb::module_::import_("comet_moe._errors").attr("BY_CODE")[code.c_str()];
      PyErr_SetString(kind.ptr(), error.what());
    }
  });
}

}  // namespace comet::python
