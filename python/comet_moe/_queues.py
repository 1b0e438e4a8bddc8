# SPDX-License-Identifier: Apache-2.0
"""Queues from a process to its GPU: MPS, by which processes share one, has not enough for many with over 8 each."""

from __future__ import annotations

import os
import warnings
from typing import Any

VARIABLE = "CUDA_DEVICE_MAX_CONNECTIONS"  # read once, as CUDA starts
FEW = 8

_has_warned = False


def ask_for_few(cuda: Any, rank: int, size: int) -> None:
    """Sets the variable, if nobody has and CUDA has not started. Else warns, once and in one process of a host, if
    more ranks than there are GPUs may have too many queues. cuda: the module torch.cuda. size: of the world."""
    given = os.environ.get(VARIABLE)
    if given is None and not cuda.is_initialized():
        os.environ[VARIABLE] = str(FEW)
        return
    if given is not None and given.isdecimal() and 1 <= int(given) <= FEW:
        return
    ranks = min(size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))  # on this host, by torchrun
    gpus = cuda.device_count()
    if ranks > gpus and int(os.environ.get("LOCAL_RANK", rank)) == 0:
        warn(ranks, gpus, given)


def warn(ranks: int, gpus: int, given: str | None) -> None:
    global _has_warned
    if _has_warned:
        return
    _has_warned = True
    shared = f"{gpus} GPU" if gpus == 1 else f"{gpus} GPUs"
    found = "is not set and CUDA has started" if given is None else f"is {given}"
    warnings.warn(f"[world] {ranks} ranks share {shared} and {VARIABLE} {found}: MPS may not have queues enough; have "
                  f"{VARIABLE}={FEW} in the environment before CUDA starts", RuntimeWarning, stacklevel=4)
