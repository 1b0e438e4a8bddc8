# SPDX-License-Identifier: Apache-2.0
"""One Mixture-of-Experts layer on four ranks that are threads of this process, compared with plain NumPy."""

import numpy as np

import comet_moe

TOKENS, EXPERTS, TOPK, HIDDEN, INTER = 256, 8, 2, 64, 96


def plain_moe(x, topk_ids, topk_weights, w13, w2):
    """The same, token by token: the down projection of silu(gate) * up, weighted and summed."""
    y = np.zeros_like(x)
    for t, row in enumerate(x):
        for expert, weight in zip(topk_ids[t], topk_weights[t]):
            gate, up = np.split(w13[expert] @ row, 2)
            y[t] += weight * (w2[expert] @ (gate / (1 + np.exp(-gate)) * up))
    return y


def main():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((TOKENS, HIDDEN), dtype=np.float32)
    topk_ids = np.argsort(rng.random((TOKENS, EXPERTS)))[:, :TOPK]  # what a router chose
    topk_weights = rng.random((TOKENS, TOPK), dtype=np.float32)
    w13 = rng.standard_normal((EXPERTS, 2 * INTER, HIDDEN), dtype=np.float32) * 0.1  # gate, then up
    w2 = rng.standard_normal((EXPERTS, HIDDEN, INTER), dtype=np.float32) * 0.1

    world = comet_moe.World.local(4)
    layer = comet_moe.MoeLayer(w13, w2, topk=TOPK, max_tokens=TOKENS, world=world)
    y, trace = layer.trace(x, topk_ids, topk_weights)

    print(layer)
    print(comet_moe.plan(topk_ids, EXPERTS, hidden=HIDDEN, intermediate=INTER, ep=4, dtype="f32"))
    print(trace)
    np.testing.assert_allclose(y, plain_moe(x, topk_ids, topk_weights, w13, w2), rtol=1e-4, atol=1e-4)
    print("ok: as plain NumPy computes it")


if __name__ == "__main__":
    main()
