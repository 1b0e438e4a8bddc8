// SPDX-License-Identifier: Apache-2.0
// The sentences of faults in a call's input that hosts and devices find alike.
#pragma once

#include <cstdint>
#include <string>

#include "layout/layer_dims.hpp"

namespace comet {

/// Which sentence, as published by a rank whose device found the fault.
enum class InputFaultKind : std::int32_t {
  none,
  too_many_tokens,  ///< a: tokens
  bad_id,           ///< a: index into topk_ids [tokens * K], b: the id
  overlap,          ///< Another call on the same workspace was still running.
};

/// A fault in numbers.
struct InputFaultDetail {
  InputFaultKind kind = InputFaultKind::none;
  std::int64_t a = 0;
  std::int64_t b = 0;
};

/// The sentence of a fault of `rank`.
std::string input_fault_sentence(const LayerDims& dims, std::int32_t rank,
                                 const InputFaultDetail& detail);

}  // namespace comet
