// SPDX-License-Identifier: Apache-2.0
// How a rank's expert weights are handed over: strided views, so that the layouts of the common
// frameworks need no repacking.
#pragma once

#include <cstdint>
#include <string_view>

#include "comet/dtype.hpp"

namespace comet {

/// One matrix per local expert, row-major, columns contiguous: either one strided buffer (`base`)
/// or a list of pointers, one per expert (`list`; then `base` and `expert_stride` are unused).
/// Strides and offsets are in elements.
struct ExpertMatrices {
  const void* base = nullptr;         ///< Start of the strided buffer.
  std::int64_t expert_stride = 0;     ///< From one expert's start to the next one's.
  std::int64_t row_stride = 0;        ///< From one row's start to the next one's.
  const void* const* list = nullptr;  ///< Start of each expert's matrix, or null.
  std::int64_t offset = 0;  ///< Added to every expert's start: where `up` begins in a fused w13.

  /// First element of local expert `e`'s matrix.
  const void* expert(std::int64_t e, DType dtype) const noexcept {
    const auto bytes = static_cast<std::int64_t>(size_of(dtype));
    const void* start = list != nullptr ? list[e] : base;
    const std::int64_t elements = offset + (list != nullptr ? 0 : e * expert_stride);
    return static_cast<const char*>(start) + elements * bytes;
  }
  /// Whether there is no matrix at all.
  bool empty() const noexcept { return base == nullptr && list == nullptr; }
};

/// Weights of one rank. The memory is borrowed and must not change while a call runs.
struct MoeWeights {
  ExpertMatrices gate;  ///< Per local expert [I/TP, H]; empty if the experts are not gated.
  ExpertMatrices up;    ///< Per local expert [I/TP, H].
  ExpertMatrices down;  ///< Per local expert [H, I/TP].
};

/// How gate and up lie in a fused first weight "w13", [2*I/TP, H] per expert.
enum class GateLayout : std::uint8_t {
  gate_up,      ///< Rows 0..I/TP-1 gate, then up (Hugging Face, vLLM, Megatron).
  up_gate,      ///< Up first (TensorRT-LLM, ScatterMoE).
  interleaved,  ///< Rows alternate gate, up (torchtitan, GPT-OSS).
  none,         ///< Not gated: w13 is [I/TP, H] per expert.
};

/// Lower-case name, for example "gate_up".
std::string_view to_string(GateLayout layout) noexcept;
/// Parses what to_string gives; throws Error(invalid_argument) on anything else.
GateLayout parse_gate_layout(std::string_view name);

/// Views of contiguous fused weights: `w13` [num_local, 2*I/TP, H] ([num_local, I/TP, H] for
/// none) and `w2` [num_local, H, I/TP]; `inter_local` = I/TP.
MoeWeights fused_weights(const void* w13, const void* w2, GateLayout layout,
                         std::int64_t inter_local, std::int64_t hidden) noexcept;

/// The same with one fused matrix per local expert: `w13[e]` [2*I/TP, H], `w2[e]` [H, I/TP]. The
/// two lists must live as long as the result.
MoeWeights listed_weights(const void* const* w13, const void* const* w2, GateLayout layout,
                          std::int64_t inter_local, std::int64_t hidden) noexcept;

}  // namespace comet
