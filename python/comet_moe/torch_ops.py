# SPDX-License-Identifier: Apache-2.0
"""The operator torch.ops.comet_moe.moe, for torch.compile and for whoever traces PyTorch programs.

Importing this module registers it; `import comet_moe` does so if torch is loaded already, and the first
call with a tensor does otherwise.
"""

from __future__ import annotations

from typing import Sequence

import torch

from comet_moe import _core
from comet_moe._arrays import NO_BACKWARD, NO_TANGENTS, has_tangent
from comet_moe._errors import CometError, InvalidArgumentError, UnsupportedError
from comet_moe._types import require_types
from comet_moe.layer import listed, run_kept
from comet_moe.world import World, default_world, world_of

SCHEMA = ("moe(Tensor x, Tensor topk_ids, Tensor topk_weights, Tensor[] w13, Tensor[] w2, int world, int ep, "
          "int tp, str activation, str gate_layout, str weight_position, str schedule, int groups) -> Tensor")

_library = torch.library.Library("comet_moe", "DEF")
_library.define(SCHEMA, tags=(torch.Tag.needs_fixed_stride_order,))


#: The handle that stands for the default world of x: compiled code has it, since that world may not be there yet as it
#: is made, and is another one where a forked child runs it.
DEFAULT_WORLD = 0

# What a call looks up takes a good part of its time.
_is_grad_enabled, _empty_like, _forward_ad = torch.is_grad_enabled, torch.empty_like, torch.autograd.forward_ad
# What needs neither a new layer nor a copy goes through C++ alone. Before PyTorch 2.10 tensors come by capsules, for
# which they must be detached.
_call = _core.call_kept if hasattr(torch.Tensor, "__dlpack_c_exchange_api__") else lambda *_: False
# Whether torch.func transforms the caller: their tensors hide what asks for gradients from _moe. None says so of versions
# that cannot tell.
_is_in_transform = getattr(torch._C, "_are_functorch_transforms_active", lambda: None)


def _check_gradients(*tensors):
    if any(tensor.requires_grad for tensor in tensors):
        raise InvalidArgumentError(NO_BACKWARD)


def _check_tangents(*tensors):
    if any(has_tangent(torch, tensor) for tensor in tensors):
        raise UnsupportedError(NO_TANGENTS)


def _moe(x, topk_ids, topk_weights, w13, w2, world, *options):
    if _is_grad_enabled():
        _check_gradients(x, topk_weights, *w13, *w2)
    if getattr(_forward_ad, "_current_level", -1) >= 0:
        _check_tangents(x, topk_weights, *w13, *w2)
    if world == DEFAULT_WORLD:
        world = default_world(x).handle
    y = _empty_like(x)
    if not _call(x, topk_ids, topk_weights, y, w13, w2, world, *options):
        run_kept(world_of(world), x, topk_ids, topk_weights, y, w13, w2, *options)
    return y


def _moe_fake(x, topk_ids, topk_weights, w13, w2, *_):
    if _is_grad_enabled():
        _check_gradients(x, topk_weights, *w13, *w2)
    # PyTorch calls this, and not _moe, where any tensor is on the device meta, and returns what is made here.
    for name, tensors in (("topk_ids", [topk_ids]), ("topk_weights", [topk_weights]), ("w13", w13), ("w2", w2)):
        for tensor in tensors:
            if tensor.device != x.device:
                raise InvalidArgumentError(f"[moe] {name}: on device {tensor.device}, x is on {x.device}")
    return _empty_like(x)


_library.impl("moe", _moe, "CPU")
_library.impl("moe", _moe, "CUDA")
# Gradients are refused here: what PyTorch does for operators that have none costs time in each call.
_library.impl("moe", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("comet_moe::moe", _moe_fake, lib=_library)
_op = torch.ops.comet_moe.moe.default


def moe(x: torch.Tensor, topk_ids: torch.Tensor, topk_weights: torch.Tensor,
        w13: torch.Tensor | Sequence[torch.Tensor], w2: torch.Tensor | Sequence[torch.Tensor], world: World | None,
        ep: int | None, tp: int, activation: str, gate_layout: str, weight_position: str, schedule: str,
        groups: int) -> torch.Tensor:
    """comet_moe.moe by way of the operator."""
    if not torch.compiler.is_compiling() and _is_in_transform():
        raise UnsupportedError("[moe] torch.func: grad, jvp, vmap and the like cannot go through this layer, which has "
                               "no backward yet")
    if world is not None:
        handle = world.handle
    else:
        handle = DEFAULT_WORLD if torch.compiler.is_compiling() else default_world(x).handle
    try:
        return _op(x, topk_ids, topk_weights, listed(w13), listed(w2), handle, 0 if ep is None else ep, tp, activation,
                   gate_layout, weight_position, schedule, groups)
    except (AttributeError, TypeError, RuntimeError) as error:
        # PyTorch passes None on as it is, and says over many lines what else does not fit its schema.
        if not isinstance(error, CometError):
            _require_tensors({"topk_ids": [topk_ids], "topk_weights": [topk_weights], "w13": listed(w13),
                              "w2": listed(w2)})
            require_types("moe", {"tp": tp, "groups": groups},
                          {"activation": activation, "gate_layout": gate_layout, "weight_position": weight_position,
                           "schedule": schedule})
        raise


def _require_tensors(arguments: dict[str, Sequence[object]]) -> None:
    for name, values in arguments.items():
        for value in values:
            if not isinstance(value, torch.Tensor):
                raise InvalidArgumentError(f"[moe] {name}: {type(value).__name__}, a tensor of PyTorch is needed, as x "
                                           "is one") from None
