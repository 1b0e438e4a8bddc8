// SPDX-License-Identifier: Apache-2.0
// DLPack's C exchange table, by which a library (PyTorch from 2.10 on) tells of its arrays in tens
// of nanoseconds, and which stream its device works on.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>

namespace comet::python {

namespace nb = nanobind;

/// As DLPack 1 lays it out.
struct ExchangeTable {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  ExchangeTable* previous = nullptr;  ///< Of an older version.
  void* allocate = nullptr;           ///< These three have no use here.
  void* export_owned = nullptr;
  void* import_owned = nullptr;
  /// Fills `*out`, whose pointers are the array's own, and returns 0, or sets Python's error. May
  /// be null.
  int (*describe)(void* array, nb::dlpack::dltensor* out) = nullptr;
  /// The stream that the caller's work on a device is queued on.
  int (*current_stream)(std::int32_t device_type, std::int32_t device, void** out) = nullptr;
};

/// The table of the array's library, or null. Valid as long as the process.
const ExchangeTable* exchange_table(nb::handle array);

}  // namespace comet::python
