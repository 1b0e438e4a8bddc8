// SPDX-License-Identifier: Apache-2.0
// Names of the public enums of error.hpp, dtype.hpp, desc.hpp and weights.hpp.
#include "base/name_table.hpp"
#include "comet/desc.hpp"
#include "comet/weights.hpp"

namespace comet {
namespace {

constexpr NameTable<ErrorCode, 10> kErrorCodes{{
    {ErrorCode::invalid_argument, "invalid_argument"},
    {ErrorCode::out_of_range, "out_of_range"},
    {ErrorCode::capacity, "capacity"},
    {ErrorCode::io, "io"},
    {ErrorCode::format, "format"},
    {ErrorCode::mismatch, "mismatch"},
    {ErrorCode::timeout, "timeout"},
    {ErrorCode::peer, "peer"},
    {ErrorCode::unsupported, "unsupported"},
    {ErrorCode::internal, "internal"},
}};
constexpr NameTable<DType, 3> kDTypes{
    {{DType::f32, "f32"}, {DType::bf16, "bf16"}, {DType::f16, "f16"}}};
constexpr NameTable<Activation, 3> kActivations{
    {{Activation::silu, "silu"}, {Activation::gelu, "gelu"}, {Activation::relu, "relu"}}};
constexpr NameTable<WeightPosition, 2> kWeightPositions{
    {{WeightPosition::after_down, "after_down"}, {WeightPosition::before_down, "before_down"}}};
constexpr NameTable<GateLayout, 4> kGateLayouts{{{GateLayout::gate_up, "gate_up"},
                                                 {GateLayout::up_gate, "up_gate"},
                                                 {GateLayout::interleaved, "interleaved"},
                                                 {GateLayout::none, "none"}}};

}  // namespace

std::string_view to_string(ErrorCode code) noexcept { return name_of(kErrorCodes, code); }
std::string_view to_string(Activation value) noexcept { return name_of(kActivations, value); }
std::string_view to_string(WeightPosition value) noexcept {
  return name_of(kWeightPositions, value);
}
std::string_view to_string(GateLayout value) noexcept { return name_of(kGateLayouts, value); }

DType parse_dtype(std::string_view name) { return parse_name(kDTypes, "dtype", name); }
Activation parse_activation(std::string_view name) {
  return parse_name(kActivations, "activation", name);
}
WeightPosition parse_weight_position(std::string_view name) {
  return parse_name(kWeightPositions, "weight position", name);
}
GateLayout parse_gate_layout(std::string_view name) {
  return parse_name(kGateLayouts, "gate layout", name);
}

}  // namespace comet
