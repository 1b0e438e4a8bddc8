// SPDX-License-Identifier: Apache-2.0
// The rule that Comet follows, as code: a shared tensor between a producer and a consumer may be
// cut along any axis that the consumer treats as independent, and the producer should first make
// what the consumer can use first.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace comet {

/// How a stage uses the elements along one axis of the shared tensor [rows, columns].
enum class AxisUse : std::uint8_t {
  independent,  ///< Elements at different positions never meet.
  reduced,      ///< Summed over: GEMM's inner axis, or the top-k sum over rows.
};

/// When the producer has a position of the cut axis ready.
enum class Readiness : std::uint8_t {
  by_arrival,      ///< Each row arrives on its own, when its source rank's transfer ends.
  by_computation,  ///< A GEMM makes tiles in whatever order it is asked to.
};

/// Access pattern of both sides of a shared tensor [rows, columns].
struct SharedTensorAccess {
  Readiness producer;
  AxisUse consumer_rows;
  AxisUse consumer_columns;
};

enum class Axis : std::uint8_t { rows, columns };

/// What is made, and so used, first.
enum class WorkOrder : std::uint8_t {
  own_rank_first,    ///< Tiles by the last source rank that they need, starting at the rank's own.
  panels_outermost,  ///< A column panel of all experts, then the next.
};

struct Decomposition {
  Axis axis;
  WorkOrder order;
  friend constexpr bool operator==(const Decomposition&, const Decomposition&) = default;
};

/// The axis to cut and the order to work in. Rows that arrive by themselves are taken in order of
/// arrival; where a consumer mixes rows, only columns are left, and then the producer must finish a
/// panel over all rows before the next, or the consumer could never start. With both axes free,
/// rows win, because a row is what a link moves. Throws std::logic_error if neither axis is
/// independent: such a consumer has to wait for the whole tensor.
constexpr Decomposition decompose(const SharedTensorAccess& access) {
  if (access.consumer_rows == AxisUse::independent) {
    return {Axis::rows, WorkOrder::own_rank_first};
  }
  if (access.consumer_columns == AxisUse::independent) {
    // Rows that only arrive cannot be made panel by panel unless the link moves parts of rows.
    if (access.producer == Readiness::by_computation) {
      return {Axis::columns, WorkOrder::panels_outermost};
    }
    throw std::logic_error("[plan] a consumer that mixes arriving rows cannot overlap with them");
  }
  throw std::logic_error("[plan] the consumer depends on every element of the shared tensor");
}

/// dispatch -> first GEMM: the shared tensor is operand A [rows, H], H is summed over.
inline constexpr Decomposition kDispatchGemm = decompose({.producer = Readiness::by_arrival,
                                                          .consumer_rows = AxisUse::independent,
                                                          .consumer_columns = AxisUse::reduced});

/// second GEMM -> combine: the shared tensor is the product [rows, H]; the top-k sum mixes rows.
inline constexpr Decomposition kGemmCombine = decompose({.producer = Readiness::by_computation,
                                                         .consumer_rows = AxisUse::reduced,
                                                         .consumer_columns = AxisUse::independent});

/// Backward of combine: gradients of y arrive row by row and meet the transposed second GEMM, which
/// sums over H: the twin of dispatch_gemm.
inline constexpr Decomposition kDispatchGradGemm =
    decompose({.producer = Readiness::by_arrival,
               .consumer_rows = AxisUse::independent,
               .consumer_columns = AxisUse::reduced});

/// Backward of dispatch: the transposed first GEMM makes [rows, H], whose rows are summed per
/// token: the twin of gemm_combine.
inline constexpr Decomposition kGradGemmCombine =
    decompose({.producer = Readiness::by_computation,
               .consumer_rows = AxisUse::reduced,
               .consumer_columns = AxisUse::independent});

}  // namespace comet
