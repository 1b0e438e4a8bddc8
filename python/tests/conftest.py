# SPDX-License-Identifier: Apache-2.0
"""Layers with random numbers, and what they should compute, in double precision."""

import numpy
import pytest


def erf(values):
    import math
    return numpy.vectorize(math.erf)(values)


ACTIVATIONS = {
    "silu": lambda v: v / (1 + numpy.exp(-v)),
    "gelu": lambda v: 0.5 * v * (1 + erf(v / numpy.sqrt(2))),
    "relu": lambda v: numpy.maximum(v, 0),
}


class Case:
    """One layer's arrays, float32: E experts of [gate; up] and down."""

    def __init__(self, tokens=37, experts=6, topk=2, hidden=64, inter=48, seed=1, gated=True):
        rng = numpy.random.default_rng(seed)
        self.experts, self.topk, self.inter, self.gated = experts, topk, inter, gated
        rows = 2 * inter if gated else inter
        self.x = rng.standard_normal((tokens, hidden), dtype=numpy.float32)
        self.ids = numpy.stack([rng.permutation(experts)[:topk] for _ in range(tokens)]).astype(numpy.int32) \
            if tokens else numpy.empty((0, topk), numpy.int32)
        self.weights = rng.random((tokens, topk), dtype=numpy.float32)
        self.w13 = rng.standard_normal((experts, rows, hidden), dtype=numpy.float32) * 0.1
        self.w2 = rng.standard_normal((experts, hidden, inter), dtype=numpy.float32) * 0.1

    def arguments(self):
        return self.x, self.ids, self.weights, self.w13, self.w2

    def truth(self, activation="silu"):
        """y, token by token."""
        f = ACTIVATIONS[activation]
        y = numpy.zeros(self.x.shape)
        for t, row in enumerate(self.x.astype(numpy.float64)):
            for expert, weight in zip(self.ids[t], self.weights[t]):
                if expert < 0:
                    continue
                products = self.w13[expert].astype(numpy.float64) @ row
                inner = f(products[:self.inter]) * products[self.inter:] if self.gated else f(products)
                y[t] += weight * (self.w2[expert].astype(numpy.float64) @ inner)
        return y


@pytest.fixture
def make_case():
    return Case


def expect_close(y, truth):
    """Sums of a few hundred float32 products of numbers below 10."""
    numpy.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-4)
