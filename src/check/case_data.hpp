// SPDX-License-Identifier: Apache-2.0
// The numbers of a case: weights as the oracle and as each rank wants them, and tokens and routing
// of each call. All values come from the case's seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "check/oracle.hpp"
#include "check/random_case.hpp"

namespace comet {

using Bytes = std::vector<std::byte>;

/// Weights of one rank. Owns what `view` points to; can be moved, not copied.
struct CaseRankWeights {
  CaseRankWeights() = default;
  CaseRankWeights(CaseRankWeights&&) = default;
  CaseRankWeights& operator=(CaseRankWeights&&) = default;

  MoeWeights view;
  std::vector<Bytes> buffers;
  std::vector<const void*> w13_list, w2_list;
};

struct CaseWeights {
  Bytes gate, up, down;  ///< Whole experts: [E, I, H], [E, I, H], [E, H, I]; gate may be empty.
  std::vector<CaseRankWeights> ranks;

  OracleWeights oracle() const noexcept { return {gate.data(), up.data(), down.data()}; }
};

CaseWeights make_weights(const Case& c);

/// Tokens and routing of one rank in one call.
struct RankCall {
  std::int64_t tokens = 0;
  std::int64_t hidden = 0;
  std::int64_t row_stride = 0;
  DType dtype = DType::f32;
  IdType id_type = IdType::i32;
  DType weight_type = DType::f32;
  Bytes x;                          ///< [tokens, row_stride]
  std::vector<std::int32_t> ids32;  ///< [tokens, K]; the one that id_type names is filled.
  std::vector<std::int64_t> ids64;
  Bytes weights;  ///< [tokens, K]; of dropped choices NaN, since nobody may look.

  ConstMatrixView x_view() const noexcept;
  RoutingView routing_view() const noexcept;
  void set_id(std::int64_t index, std::int64_t id) noexcept;
  float weight(std::int64_t index) const;
  void set_weight(std::int64_t index, float weight);  ///< Rounded.
};

/// Call number `call` of a case: number 0 has the case's own token pattern and routing, later ones
/// draw both.
std::vector<RankCall> make_call(const Case& c, std::int64_t call = 0);

/// The same with the case's own pattern and routing, but other numbers per `call`, and `tokens[r]`
/// tokens on rank r (which may exceed max_tokens, to provoke the error).
std::vector<RankCall> make_call_of(const Case& c, std::int64_t call,
                                   const std::vector<std::int64_t>& tokens);

}  // namespace comet
