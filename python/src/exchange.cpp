// SPDX-License-Identifier: Apache-2.0
#include "exchange.hpp"

#include <vector>

namespace comet::python {
namespace {

struct KnownType {
  PyTypeObject* type;  // never freed, so that no other gets its address
  const ExchangeTable* table;
};

const ExchangeTable* look_up(nb::handle type) {
  const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
  if (PyCapsule_CheckExact(capsule.ptr()) == 0) return nullptr;
  const auto* table =
      static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (table == nullptr) nb::raise_python_error();
  while (table != nullptr && table->major > 1) table = table->previous;
  return table != nullptr && table->major == 1 && table->describe != nullptr ? table : nullptr;
}

}  // namespace

const ExchangeTable* exchange_table(nb::handle array) {
  static std::vector<KnownType> known_types;  // guarded by Python's lock
  PyTypeObject* const type = Py_TYPE(array.ptr());
  for (const KnownType& known : known_types) {
    if (known.type == type) return known.table;
  }
  const ExchangeTable* const table = look_up(nb::handle(reinterpret_cast<PyObject*>(type)));
  if (table == nullptr) return nullptr;  // its library may get one, and its types may be many
  Py_INCREF(type);
  known_types.push_back({type, table});
  return table;
}

}  // namespace comet::python
