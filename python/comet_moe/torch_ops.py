# SPDX-License-Identifier: Apache-2.0
"""The operator torch.ops.comet_moe.moe, for torch.compile and for whoever traces PyTorch programs.

Importing this module registers it; `import comet_moe` does so if torch is loaded already, and the first
call with a tensor does otherwise.
"""

from __future__ import annotations

from typing import Sequence

import torch

from comet_moe._arrays import NO_BACKWARD
from comet_moe._errors import InvalidArgumentError
from comet_moe.layer import check_axes, kept_layer, listed
from comet_moe.world import World, world_of

_SCHEMA = ("moe(Tensor x, Tensor topk_ids, Tensor topk_weights, Tensor[] w13, Tensor[] w2, int world, int ep, "
           "int tp, str activation, str gate_layout, str weight_position, str schedule, int groups) -> Tensor")

_library = torch.library.Library("comet_moe", "DEF")
_library.define(_SCHEMA, tags=(torch.Tag.needs_fixed_stride_order,))


def _check_gradients(*tensors):
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise InvalidArgumentError(NO_BACKWARD)


def _moe(x, topk_ids, topk_weights, w13, w2, world, ep, tp, activation, gate_layout, weight_position, schedule,
         groups):
    _check_gradients(x, topk_weights, *w13, *w2)
    check_axes(x, topk_ids)
    layer = kept_layer(x.shape[0], topk_ids.shape[1], w13, w2, world_of(world), ep, tp, activation, gate_layout,
                       weight_position)
    return layer.call_tensors(x, topk_ids, topk_weights, schedule, groups)


def _moe_fake(x, topk_ids, topk_weights, w13, w2, *_):
    _check_gradients(x, topk_weights, *w13, *w2)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_library.impl("moe", _moe, "CPU")
torch.library.register_fake("comet_moe::moe", _moe_fake, lib=_library)
_op = torch.ops.comet_moe.moe.default


def moe(x: torch.Tensor, topk_ids: torch.Tensor, topk_weights: torch.Tensor,
        w13: torch.Tensor | Sequence[torch.Tensor], w2: torch.Tensor | Sequence[torch.Tensor], world: World,
        ep: int | None, tp: int, activation: str, gate_layout: str, weight_position: str, schedule: str,
        groups: int) -> torch.Tensor:
    """comet_moe.moe by way of the operator."""
    return _op(x, topk_ids, topk_weights, listed(w13), listed(w2), world.handle, 0 if ep is None else ep, tp, activation,
               gate_layout, weight_position, schedule, groups)
