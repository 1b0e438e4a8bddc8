// SPDX-License-Identifier: Apache-2.0
// How long the products of a GPU's rank take with what they read from the device's memory, as
// blocks walk the items (layout/band_walk.hpp). A band of row tiles reads its experts' weights
// column by column, and the next band reads them again unless the last cache still has them;
// comet's second product reads the activations of a group again for each panel.
#pragma once

#include <cstdint>

#include "tune/case_load.hpp"
#include "tune/machine_model.hpp"
#include "tune/stage_pair.hpp"
#include "tune/tune_case.hpp"

namespace comet {

/// Microseconds in which a device reads the weights of all its ranks once, for each product.
StagePair one_pass_us(const MachineRates& rates, const TuneCase& of);

/// sequential's products with the weights that they read. `products` is what they take if all
/// operands are near.
StagePair sequential_walk_us(const MachineRates& rates, const TuneCase& of, const CaseLoad& load,
                             const StagePair& products);

/// The same of comet, with `groups` and panels of `panel_columns` column tiles, whose second
/// product reads activations again too.
StagePair comet_walk_us(const MachineRates& rates, const TuneCase& of, const CaseLoad& load,
                        const StagePair& products, std::int64_t groups, std::int64_t panel_columns);

}  // namespace comet
