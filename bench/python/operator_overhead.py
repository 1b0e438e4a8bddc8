#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claim: on one rank the operator torch.ops.comet_moe.moe costs less than 10 us over an empty operator of the same
signature, beside the layer's own time.

    operator_overhead.py            prints the figures
    operator_overhead.py --check    also exits 1 if the overhead is over the claim

The empty operator, too, is registered by torch.library with a function of Python that returns a ready tensor. Both
run in turns, in batches, and the fastest tenth counts, since what else runs on the machine only adds. The layer's time
is by its own clock, of the last call of each batch of the operator: the caches are then as full of PyTorch's code as
in a program.
"""

import argparse
import json
import statistics
import time

import torch

import comet_moe
from comet_moe import torch_ops

CLAIM_US = 10.0
CALLS = 20  # of a batch: it ends well within the time slice of a busy machine


def per_call_us(function, arguments):
    """Mean microseconds of a call in one batch."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        function(*arguments)
    return (time.perf_counter() - begin) / CALLS * 1e6


def measure(batches):
    """The first decile over batches, microseconds."""
    world = comet_moe.World.local(1)
    x, ids = torch.ones(1, 8), torch.zeros(1, 1, dtype=torch.int64)
    weights, w13, w2 = torch.ones(1, 1), torch.ones(2, 16, 8), torch.ones(2, 8, 8)
    arguments = (x, ids, weights, [w13], [w2], world.handle, 0, 1, "silu", "gate_up", "after_down", "comet", 0)
    library = torch.library.Library("comet_moe_bench", "DEF")
    library.define(torch_ops.SCHEMA.replace("moe(", "empty(", 1))
    y = torch.empty_like(x)
    library.impl("empty", lambda *_: y, "CPU")
    empty, moe = torch.ops.comet_moe_bench.empty.default, torch.ops.comet_moe.moe.default
    times = {"empty": [], "moe": [], "layer": []}
    with torch.no_grad():
        for _ in range(3):  # to warm up
            per_call_us(moe, arguments)
        core = world.kept.find_or_make(1, 1, [w13], [w2], 0, 1, "silu", "gate_up", "after_down")
        for _ in range(batches):
            times["empty"].append(per_call_us(empty, arguments))
            times["moe"].append(per_call_us(moe, arguments))
            times["layer"].append(core.stats()[0]["t_layer_us"])
    return {name: statistics.quantiles(values, n=10)[0] for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if the overhead is over the claim")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--batches", type=int, default=2000, help=f"of {CALLS} calls each (default: %(default)s)")
    flags = parser.parse_args()
    if flags.batches < 2:
        parser.error(f"--batches: {flags.batches}, from 2")
    figures = measure(flags.batches)
    overhead = figures["moe"] - figures["empty"] - figures["layer"]
    if flags.json:
        print(json.dumps({**{f"{name}_us": value for name, value in figures.items()}, "overhead_us": overhead}))
    else:
        print(f"empty operator {figures['empty']:.1f} us, comet_moe.moe {figures['moe']:.1f} us, of it the layer "
              f"{figures['layer']:.1f} us: {overhead:.1f} us over the empty one")
    if flags.check and overhead > CLAIM_US:
        parser.exit(1, f"over the claim of {CLAIM_US:.0f} us\n")


if __name__ == "__main__":
    main()
