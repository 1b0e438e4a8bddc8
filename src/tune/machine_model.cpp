// SPDX-License-Identifier: Apache-2.0
#include "tune/machine_model.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "io/json.hpp"

namespace comet {
namespace {

constexpr MachineRate kRates[] = {
    {"worker_tflops", &MachineRates::worker_tflops},
    {"tile_us", &MachineRates::tile_us},
    {"weight_gbs", &MachineRates::weight_gbs},
    {"cut_slowdown", &MachineRates::cut_slowdown},
    {"overlap_tflops", &MachineRates::overlap_tflops},
    {"overlap_tile_us", &MachineRates::overlap_tile_us},
    {"overlap_cut_slowdown", &MachineRates::overlap_cut_slowdown},
    {"reread_gbs", &MachineRates::reread_gbs},
    {"cache_mb", &MachineRates::cache_mb},
    {"publish_us", &MachineRates::publish_us},
    {"publish_gbs", &MachineRates::publish_gbs},
    {"plan_us", &MachineRates::plan_us},
    {"plan_ns_per_token", &MachineRates::plan_ns_per_token},
    {"phase_us", &MachineRates::phase_us},
    {"tail_us", &MachineRates::tail_us},
    {"pull_gbs", &MachineRates::pull_gbs},
    {"row_gbs", &MachineRates::row_gbs},
    {"sum_gbs", &MachineRates::sum_gbs},
    {"push_gbs", &MachineRates::push_gbs},
    {"overlap_pull", &MachineRates::overlap_pull},
    {"overlap_push", &MachineRates::overlap_push},
    {"block_pull_gbs", &MachineRates::block_pull_gbs},
    {"block_sum_gbs", &MachineRates::block_sum_gbs},
    {"block_idle", &MachineRates::block_idle},
    {"link_gbs", &MachineRates::link_gbs},
    {"host_pull_gbs", &MachineRates::host_pull_gbs},
    {"host_push_gbs", &MachineRates::host_push_gbs},
};

}  // namespace

std::span<const MachineRate> machine_rates() { return kRates; }

const MachineModel& find_machine(std::string_view name) {
  std::string names;
  for (const MachineModel& machine : known_machines()) {
    if (machine.name == name) return machine;
    names += (names.empty() ? "" : ", ") + machine.name;
  }
  fail(ErrorCode::invalid_argument, "[machine] unknown machine {}: one of {}", quote_text(name),
       names);
}

const MachineModel& machine_of_device(Backend backend, std::string_view device) {
  const std::span<const MachineModel> all = known_machines();
  const auto same = std::find_if(all.begin(), all.end(), [&](const MachineModel& machine) {
    return machine.backend == backend && !device.empty() && machine.device == device;
  });
  if (same != all.end()) return *same;
  return *std::find_if(all.begin(), all.end(),
                       [&](const MachineModel& machine) { return machine.backend == backend; });
}

nlohmann::ordered_json rates_to_json(const MachineRates& rates) {
  nlohmann::ordered_json json;
  for (const MachineRate& rate : kRates) json[std::string(rate.name)] = rates.*rate.value;
  return json;
}

MachineRates rates_from_json(const nlohmann::json& json, std::string_view stage,
                             const std::string& source) {
  check(json.is_object(), ErrorCode::format, "[{}] {}: the machine's rates are no object", stage,
        source);
  MachineRates rates;
  for (const MachineRate& rate : kRates) {
    const auto found = json.find(std::string(rate.name));
    const bool is_good = found != json.end() && found->is_number() && found->get<double>() > 0;
    check(is_good, ErrorCode::format, "[{}] {}: the machine's rate {} is missing or not above 0",
          stage, source, rate.name);
    rates.*rate.value = found->get<double>();
  }
  for (auto entry = json.begin(); entry != json.end(); ++entry) {
    const std::string& key = entry.key();
    const bool is_known = std::any_of(std::begin(kRates), std::end(kRates),
                                      [&](const MachineRate& rate) { return rate.name == key; });
    check(is_known, ErrorCode::format, "[{}] {}: unknown rate {} of a machine", stage, source,
          quote_text(key));
  }
  return rates;
}

}  // namespace comet
