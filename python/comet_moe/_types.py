# SPDX-License-Identifier: Apache-2.0
"""Types of arguments, told in one sentence where the C++ library would list its overloads."""

from __future__ import annotations

from typing import Any

from comet_moe._errors import InvalidArgumentError


_OF_32_BITS = {"ranks", "workers", "n_c_dispatch", "n_c_combine"}


def require_types(stage: str, integers: dict[str, Any], texts: dict[str, Any] | None = None) -> None:
    """Raises InvalidArgumentError for the first value that is no integer, one that C++ cannot hold, or no text.
    For handlers of what C++ raises, too, whose many lines are not shown then."""
    for name, value in integers.items():
        if not hasattr(type(value), "__index__"):
            raise InvalidArgumentError(f"[{stage}] {name}: {value!r}, an integer is needed") from None
        most = 2**31 - 1 if name in _OF_32_BITS else 2**63 - 1
        if not -most <= int(value) <= most:
            raise InvalidArgumentError(f"[{stage}] {name}: {value}, from {-most} to {most}") from None
    for name, value in (texts or {}).items():
        if not isinstance(value, str):
            raise InvalidArgumentError(f"[{stage}] {name}: {value!r}, a text is needed") from None


def require_array(name: str, value: Any) -> None:
    """Raises InvalidArgumentError unless it has a shape."""
    if not hasattr(value, "shape"):
        raise InvalidArgumentError(f"[moe] {name}: {type(value).__name__}, an array is needed that speaks DLPack")
