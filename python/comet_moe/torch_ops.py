# SPDX-License-Identifier: Apache-2.0
"""The operator torch.ops.comet_moe.moe, for torch.compile and for whoever traces PyTorch programs.

Importing this module registers it; `import comet_moe` does so if torch is loaded already, and the first
call with a tensor does otherwise.
"""

from __future__ import annotations

from typing import Sequence

import torch

from comet_moe._errors import InvalidArgumentError
from comet_moe.layer import call_kept_layer
from comet_moe.world import World, world_of

_SCHEMA = ("moe(Tensor x, Tensor topk_ids, Tensor topk_weights, Tensor[] w13, Tensor[] w2, int world, int ep, "
           "int tp, str activation, str gate_layout, str weight_position, str schedule, int groups) -> Tensor")

_library = torch.library.Library("comet_moe", "DEF")
_library.define(_SCHEMA, tags=(torch.Tag.needs_fixed_stride_order,))


def _moe(x, topk_ids, topk_weights, w13, w2, world, ep, tp, activation, gate_layout, weight_position, schedule,
         groups):
    return call_kept_layer(x, topk_ids, topk_weights, w13, w2, world_of(world), None, schedule, groups, ep, tp,
                           activation, gate_layout, weight_position)


def _moe_fake(x, *_):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _moe_autograd(x, topk_ids, topk_weights, w13, w2, *options):
    if torch.is_grad_enabled():
        for tensor in (x, topk_weights, *w13, *w2):
            if tensor.requires_grad:
                raise InvalidArgumentError(
                    "[moe] requires_grad: set on an input, and this layer has no backward yet: call it under "
                    "torch.no_grad()")
    with torch._C._AutoDispatchBelowAutograd():
        return _op(x, topk_ids, topk_weights, w13, w2, *options)


_library.impl("moe", _moe, "CPU")
_library.impl("moe", _moe_autograd, "Autograd")
torch.library.register_fake("comet_moe::moe", _moe_fake, lib=_library)
_op = torch.ops.comet_moe.moe.default


def moe(x: torch.Tensor, topk_ids: torch.Tensor, topk_weights: torch.Tensor,
        w13: torch.Tensor | Sequence[torch.Tensor], w2: torch.Tensor | Sequence[torch.Tensor], world: World,
        ep: int | None, tp: int, activation: str, gate_layout: str, weight_position: str, schedule: str,
        groups: int) -> torch.Tensor:
    """comet_moe.moe by way of the operator."""
    first = [w13] if isinstance(w13, torch.Tensor) else list(w13)
    second = [w2] if isinstance(w2, torch.Tensor) else list(w2)
    return _op(x, topk_ids, topk_weights, first, second, world.handle, 0 if ep is None else ep, tp, activation,
               gate_layout, weight_position, schedule, groups)
