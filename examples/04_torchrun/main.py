# SPDX-License-Identifier: Apache-2.0
"""One Mixture-of-Experts layer whose ranks are the processes of torchrun, compared with PyTorch on one process."""

import torch
from torch import distributed
from torch.nn.functional import silu

import comet_moe

TOKENS, EXPERTS, TOPK, HIDDEN, INTER = 100, 8, 2, 64, 96


def plain_moe(x, topk_ids, topk_weights, w13, w2):
    """The same with all experts' weights in one place."""
    y = torch.zeros_like(x)
    for expert in range(len(w13)):
        token, choice = torch.where(topk_ids == expert)
        gate, up = (x[token] @ w13[expert].T).chunk(2, dim=-1)
        y.index_add_(0, token, topk_weights[token, choice, None] * ((silu(gate) * up) @ w2[expert].T))
    return y


def main():
    distributed.init_process_group("gloo")
    world = comet_moe.World.from_torch_distributed()
    torch.manual_seed(1)  # the same weights everywhere, of which each rank keeps its experts'
    w13, w2 = torch.randn(EXPERTS, 2 * INTER, HIDDEN) * 0.1, torch.randn(EXPERTS, HIDDEN, INTER) * 0.1
    layer = comet_moe.MoeLayer(w13.tensor_split(world.size)[world.rank], w2.tensor_split(world.size)[world.rank],
                               num_experts=EXPERTS, topk=TOPK, max_tokens=TOKENS, world=world)

    torch.manual_seed(100 + world.rank)  # other tokens, and another number of them, on each rank
    x = torch.randn(TOKENS - world.rank, HIDDEN)
    topk_weights, topk_ids = torch.randn(len(x), EXPERTS).softmax(dim=-1).topk(TOPK)
    y = layer(x, topk_ids, topk_weights)

    torch.testing.assert_close(y, plain_moe(x, topk_ids, topk_weights, w13, w2), rtol=1e-4, atol=1e-4)
    print(f"ok: rank {world.rank} of {world.size}, {len(x)} tokens, as PyTorch computes them alone\n", end="")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
