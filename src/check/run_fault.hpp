// SPDX-License-Identifier: Apache-2.0
// Checks that input faults of one rank reach all ranks alike and leave the world good.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "check/random_case.hpp"
#include "check/run_case.hpp"

namespace comet {

/// Arguments of one rank that no layer can accept.
enum class Fault : std::uint8_t {
  too_many_tokens,
  id_is_num_experts,
  id_negative,
  id_65535,  ///< Equal to "dropped" once cut to 16 bits.
  id_wraps,  ///< Equal to expert 0 once cut to 16 bits (to 32 bits, for 64-bit ids).
  null_x,
  null_ids,
  null_weights,
  null_y,
  wrong_columns,  ///< x has other columns than H.
  wrong_dtype,    ///< x has the other dtype.
  two_ranks,      ///< Two ranks have too many tokens: still one sentence.
  device_tokens,  ///< cuda: T in device memory is more than the host said.
};
constexpr Fault kFaults[] = {Fault::too_many_tokens, Fault::id_is_num_experts, Fault::id_negative,
                             Fault::id_65535,        Fault::id_wraps,          Fault::null_x,
                             Fault::null_ids,        Fault::null_weights,      Fault::null_y,
                             Fault::wrong_columns,   Fault::wrong_dtype,       Fault::two_ranks,
                             Fault::device_tokens};
/// Those that calls on `backend` can have.
std::span<const Fault> faults_of(Backend backend) noexcept;
std::string_view to_string(Fault fault) noexcept;

/// A good call, then by every schedule the faulty one and a good one: every rank must throw the
/// same sentence and get NaN, and all good calls must give the same bits. On cuda each is also
/// launched as a graph. Needs max_tokens >= 1.
CaseResult run_fault(const Case& c, Fault fault, const CaseOptions& options);

}  // namespace comet
