// SPDX-License-Identifier: Apache-2.0
// The module comet_moe._core: the C++ library as Python's side of the package uses it. What users
// see, with its documentation, is in python/comet_moe.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstring>

#include "call_trace.hpp"
#include "comet/error.hpp"
#include "comet/version.hpp"
#include "errors.hpp"
#include "fork_lock.hpp"
#include "kept_layers.hpp"
#include "layer.hpp"
#include "plan.hpp"
#include "world_part.hpp"

namespace comet::python {
namespace {

nb::dict to_dict(const CallStats& stats) {
  nb::dict d;
  d["t_layer_us"] = stats.t_layer_us;
  d["t_publish_us"] = stats.t_publish_us;
  d["t_plan_us"] = stats.t_plan_us;
  d["rows"] = stats.rows;
  d["tiles"] = stats.tiles;
  d["dispatch_bytes_in"] = stats.dispatch_bytes_in;
  d["dispatch_bytes_out"] = stats.dispatch_bytes_out;
  d["combine_bytes_in"] = stats.combine_bytes_in;
  d["combine_bytes_out"] = stats.combine_bytes_out;
  d["metadata_bytes_in"] = stats.metadata_bytes_in;
  d["host_bytes_planned"] = stats.host_bytes_planned;
  d["host_bytes_sent"] = stats.host_bytes_sent;
  const CallChoices& choices = stats.choices;
  d["schedule"] = std::string(to_string(choices.schedule));
  d["groups"] = choices.groups;
  d["panel"] = choices.panel;
  d["chunk"] = choices.chunk;
  d["n_c_dispatch"] = choices.n_c_dispatch;
  d["n_c_combine"] = choices.n_c_combine;
  d["placement"] = std::string(to_string(choices.placement));
  d["waves"] = choices.waves;
  return d;
}

// `all_gather` takes this rank's bytes and returns all ranks', joined in rank order.
std::shared_ptr<WorldPart> make_processes(std::string kind, int rank, int size,
                                          const nb::callable& all_gather,
                                          const std::string& backend, std::int64_t timeout_ms) {
  const auto gather = [&all_gather, size](const void* in, void* out, std::size_t bytes) {
    const auto all = nb::cast<nb::bytes>(all_gather(nb::bytes(in, bytes)));
    if (all.size() != bytes * static_cast<std::size_t>(size)) {
      throw Error(ErrorCode::internal, "[world] all_gather: it returned bytes of another length");
    }
    std::memcpy(out, all.data(), all.size());
  };
  return WorldPart::processes(
      {.kind = std::move(kind), .rank = rank, .size = size, .all_gather = gather}, backend,
      std::chrono::milliseconds(timeout_ms));
}

void bind_world(nb::module_& module) {
  using std::chrono::milliseconds;
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  nb::class_<WorldPart>(module, "WorldPart")
      .def_static(
          "local",
          [](int ranks, const std::string& link, const std::string& backend,
             std::int64_t timeout_ms) {
            return WorldPart::local(ranks, link, backend, milliseconds(timeout_ms));
          },
          nb::arg("ranks"), nb::arg("link"), nb::arg("backend"), nb::arg("timeout_ms"))
      .def_static(
          "mpi", [](std::int64_t timeout_ms) { return WorldPart::mpi(milliseconds(timeout_ms)); },
          nb::arg("timeout_ms"), unlocked)
      .def_static("processes", &make_processes, nb::arg("kind"), nb::arg("rank"), nb::arg("size"),
                  nb::arg("all_gather"), nb::arg("backend"), nb::arg("timeout_ms"))
      .def_prop_ro("size", &WorldPart::size)
      .def_prop_ro("num_here", &WorldPart::num_here)
      .def_prop_ro("first_rank", &WorldPart::first_rank)
      .def_prop_ro("kind", &WorldPart::kind)
      .def_prop_ro("link", &WorldPart::link)
      .def_prop_ro("backend", &WorldPart::backend)
      .def_prop_ro("timeout_ms", &WorldPart::timeout_ms)
      .def("require_own", &WorldPart::require_own)
      .def("recover", &WorldPart::recover, unlocked)
      .def("barrier", &WorldPart::barrier, unlocked);
}

// The trace of the call, if it asks for one.
std::optional<CallTrace> call_layer(Layer& layer, const CallArrays& arrays, const CallSpec& spec) {
  const std::vector<Trace> traces = layer.forward(arrays, spec);
  if (!spec.is_traced) return std::nullopt;
  const CallChoices choices = layer.check().front().choices;
  return CallTrace(std::string(to_string(choices.schedule)),
                   choices.groups == 1 ? "" : std::to_string(choices.groups) + " groups",
                   layer.workers(), traces);
}

void bind_layer(nb::module_& module) {
  nb::class_<Layer>(module, "Layer")
      .def(
          "__init__",
          [](Layer* self, std::shared_ptr<WorldPart> world, const nb::list& w13, const nb::list& w2,
             std::int64_t topk, std::int64_t max_tokens, std::int64_t ep, std::int64_t tp,
             const std::string& activation, const std::string& gate_layout,
             const std::string& weight_position, int workers, std::int64_t num_experts) {
            new (self) Layer(std::move(world), w13, w2,
                             {.topk = topk,
                              .max_tokens = max_tokens,
                              .ep = ep,
                              .tp = tp,
                              .activation = activation,
                              .gate_layout = gate_layout,
                              .weight_position = weight_position,
                              .workers = workers,
                              .num_experts = num_experts});
          },
          nb::arg("world"), nb::arg("w13"), nb::arg("w2"), nb::kw_only(), nb::arg("topk"),
          nb::arg("max_tokens"), nb::arg("ep"), nb::arg("tp"), nb::arg("activation"),
          nb::arg("gate_layout"), nb::arg("weight_position"), nb::arg("workers"),
          nb::arg("num_experts"))
      .def_prop_ro("num_experts", [](const Layer& l) { return l.desc().num_experts; })
      .def_prop_ro("topk", [](const Layer& l) { return l.desc().topk; })
      .def_prop_ro("hidden", [](const Layer& l) { return l.desc().hidden; })
      .def_prop_ro("intermediate", [](const Layer& l) { return l.desc().intermediate; })
      .def_prop_ro("dtype", [](const Layer& l) { return std::string(to_string(l.desc().dtype)); })
      .def_prop_ro("ep", [](const Layer& l) { return l.parallel().ep; })
      .def_prop_ro("tp", [](const Layer& l) { return l.parallel().tp; })
      .def_prop_ro("max_tokens", &Layer::max_tokens)
      .def_prop_ro("workspace_bytes", &Layer::workspace_bytes)
      .def_prop_ro("local_bytes", &Layer::local_bytes)
      // What the last call did on each rank here; waits for it on GPUs, and throws its fault.
      .def("stats",
           [](Layer& layer) {
             nb::list stats;
             for (const CallStats& each : layer.check()) stats.append(to_dict(each));
             return stats;
           })
      .def("explain_choice", &Layer::explain_choice, nb::arg("tokens"))
      .def(
          "forward",
          [](Layer& layer, nb::handle x, nb::handle ids, nb::handle weights, nb::handle out,
             const std::string& schedule, std::int64_t groups, std::int64_t panel, int n_c_dispatch,
             int n_c_combine, const std::string& placement, std::int64_t waves,
             std::int64_t expected_tokens, bool trace) {
            return call_layer(layer, CallArrays(x, ids, weights, out),
                              {.schedule = schedule,
                               .groups = groups,
                               .panel = panel,
                               .n_c_dispatch = n_c_dispatch,
                               .n_c_combine = n_c_combine,
                               .placement = placement,
                               .waves = waves,
                               .expected_tokens = expected_tokens,
                               .is_traced = trace});
          },
          nb::arg("x").none(), nb::arg("topk_ids").none(), nb::arg("topk_weights").none(),
          nb::arg("out").none(), nb::kw_only(), nb::arg("schedule"), nb::arg("groups"),
          nb::arg("panel"), nb::arg("n_c_dispatch"), nb::arg("n_c_combine"), nb::arg("placement"),
          nb::arg("waves"), nb::arg("expected_tokens"), nb::arg("trace"));
}

}  // namespace
}  // namespace comet::python

NB_MODULE(_core, module) {
  module.doc() = "The C++ library of comet_moe.";
  module.attr("__version__") = COMET_VERSION_STRING;
  nanobind::set_leak_warnings(false);  // worlds may live as long as the process
  comet::python::translate_errors();
  comet::python::bind_fork_lock(module);
  comet::python::bind_world(module);
  comet::python::bind_layer(module);
  comet::python::bind_kept_layers(module);
  comet::python::bind_plan(module);
  comet::python::bind_call_trace(module);
}
