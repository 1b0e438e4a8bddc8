# SPDX-License-Identifier: Apache-2.0
"""Arrays of whatever library a caller uses, none of which this package imports by itself."""

from __future__ import annotations

import sys
from typing import Any

from comet_moe._errors import InvalidArgumentError, UnsupportedError
from comet_moe._types import require_array


#: What an input that asks for gradients is told.
NO_BACKWARD = ("[moe] requires_grad: set on an input, and this layer has no backward yet: call it under "
               "torch.no_grad()")


#: What an input with a tangent is told.
NO_TANGENTS = ("[moe] forward_ad: an input has a tangent, and this layer passes none on, so what follows would take it "
               "for a constant: give it the primal alone")


def has_tangent(torch: Any, x: Any) -> bool:
    """Whether forward-mode differentiation has given one to the tensor."""
    forward_ad = torch.autograd.forward_ad
    # Outside of dual_level, where nearly all calls are, this costs a look.
    return getattr(forward_ad, "_current_level", -1) >= 0 and forward_ad.unpack_dual(x).tangent is not None


def empty_like(x: Any) -> Any:
    """An array of x's library, shape and type to write to."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(x, numpy.ndarray):
        return numpy.empty(x.shape, x.dtype)
    require_array("x", x)
    raise InvalidArgumentError(
        f"[moe] out: needed for x of {type(x).__module__}.{type(x).__name__}, since only NumPy's and PyTorch's "
        "arrays can be made here: pass one to write to")


def plain(x: Any) -> Any:
    """x without what keeps PyTorch from handing out its memory; raises if gradients are asked for."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return x
    if x.requires_grad and torch.is_grad_enabled():
        raise InvalidArgumentError(NO_BACKWARD)
    if has_tangent(torch, x):
        raise UnsupportedError(NO_TANGENTS)
    return x.detach()


def dense(x: Any) -> Any:
    """x without gaps between its rows: a copy if it has any, so for what is small."""
    x = plain(x)
    contiguous = getattr(x, "contiguous", None)
    if contiguous is not None:
        return contiguous()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(x, numpy.ndarray):
        return numpy.ascontiguousarray(x)
    return x
