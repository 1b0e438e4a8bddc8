// SPDX-License-Identifier: Apache-2.0
#include "plan.hpp"

#include <nanobind/stl/string.h>

#include <cstdint>

#include "arrays.hpp"
#include "comet/plan.hpp"

namespace comet::python {
namespace {

PlanSummary make_plan(nb::handle topk_ids, std::int64_t experts, std::int64_t ep, std::int64_t tp,
                      std::int64_t hidden, std::int64_t intermediate, const std::string& dtype,
                      std::int64_t groups, std::int64_t block_m) {
  const Array ids(topk_ids, "topk_ids", Use::read);
  const RoutingView all = ids_of(ids);
  PlanQuery query;
  query.desc.num_experts = experts;
  query.desc.topk = ids.shape(1);
  query.desc.hidden = hidden;
  query.desc.intermediate = intermediate;
  query.desc.dtype = parse_dtype(dtype);
  query.parallel = {.ep = ep, .tp = tp};
  query.groups = groups;
  query.block_m = block_m;
  validate(query.desc, query.parallel);
  const auto ranks = static_cast<int>(query.parallel.world_size());
  for (int rank = 0; rank < ranks; ++rank) {
    query.routing.push_back(rows_of(all, query.desc.topk, part_begin(all.tokens, ranks, rank),
                                    part_begin(all.tokens, ranks, rank + 1)));
  }
  return summarize_plan(query);
}

}  // namespace

void bind_plan(nb::module_& module) {
  nb::class_<PlanSummary>(module, "PlanSummary", "What a call would do, see comet_moe.plan.")
      .def("to_text", &PlanSummary::to_text, "Readable tables.")
      .def("to_json", &PlanSummary::to_json, "One JSON object.");
  module.def("plan", &make_plan, nb::arg("topk_ids").none(), nb::arg("num_experts"), nb::kw_only(),
             nb::arg("ep"), nb::arg("tp"), nb::arg("hidden"), nb::arg("intermediate"),
             nb::arg("dtype"), nb::arg("groups"), nb::arg("block_m"));
}

}  // namespace comet::python
