# SPDX-License-Identifier: Apache-2.0
"""What every rank of a world of processes checks, whoever has started them."""

import sys

import numpy

import comet_moe
from conftest import Case, expect_close


def part(array, parts, index):
    return array[len(array) * index // parts:len(array) * (index + 1) // parts]


def check_layers(world):
    """Every rank compares its tokens with double precision: weights whole, its experts', its slices'; and what one
    rank does wrong is the same sentence on all, after which the world goes on."""
    n, r = world.size, world.rank
    case = Case(tokens=40 * n + 1, experts=2 * n, inter=96)
    x, ids, weights = (part(a, n, r) for a in (case.x, case.ids, case.weights))
    truth = part(case.truth(), n, r)
    options = {"topk": 2, "max_tokens": 64, "world": world}
    expect_close(comet_moe.MoeLayer(case.w13, case.w2, **options)(x, ids, weights), truth)
    own = comet_moe.MoeLayer(case.w13[2 * r:2 * r + 2], case.w2[2 * r:2 * r + 2], num_experts=2 * n, **options)
    expect_close(own(x, ids, weights), truth)
    width = case.inter // n
    gate, up = case.w13[:, :case.inter], case.w13[:, case.inter:]
    rows = slice(r * width, (r + 1) * width)
    w13 = [numpy.concatenate([gate[e, rows], up[e, rows]]) for e in range(2 * n)]
    sliced = comet_moe.MoeLayer(w13, [w[:, rows] for w in case.w2], num_experts=2 * n, ep=1, tp=n, **options)
    expect_close(sliced(x, ids, weights), truth)
    try:
        own(x, ids * 0 + 999 if r == n - 1 else ids, weights)
        sys.exit("a bad id went through")
    except IndexError as error:
        assert "999" in str(error) and f"rank {n - 1}" in str(error), error
    expect_close(own(x, ids, weights), truth)
    try:
        comet_moe.moe(x, ids, weights, case.w13, case.w2, world=world)
        sys.exit("moe took a world of processes")
    except ValueError as error:
        assert "MoeLayer" in str(error)
    world.barrier()
