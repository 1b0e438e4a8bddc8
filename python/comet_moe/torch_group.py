# SPDX-License-Identifier: Apache-2.0
"""Process groups of torch.distributed, as worlds begin with them."""

from __future__ import annotations

from typing import Any, Callable

from comet_moe._errors import InvalidArgumentError, UnsupportedError


def join(group: Any) -> tuple[int, int, Callable[[bytes], bytes]]:
    """This process's rank in `group`, the group's size, and its all-gather. `group` as
    World.from_torch_distributed takes it."""
    try:
        from torch import distributed
    except ImportError as error:
        raise UnsupportedError("[world] torch.distributed: PyTorch is not installed; see https://pytorch.org, or use "
                               "World.local or World.from_mpi") from error
    if not distributed.is_available():
        raise UnsupportedError("[world] torch.distributed: this PyTorch is built without it")
    if not distributed.is_initialized():
        raise InvalidArgumentError("[world] torch.distributed: not initialized; start the program with torchrun and "
                                   "call torch.distributed.init_process_group() first")
    if hasattr(group, "get_group"):  # a DeviceMesh
        if group.ndim != 1:
            raise InvalidArgumentError(f"[world] group: a DeviceMesh of {group.ndim} dimensions, choose one: mesh['ep']")
        group = group.get_group()
    rank = distributed.get_rank(group)
    if rank < 0:
        raise InvalidArgumentError(f"[world] group: rank {distributed.get_rank()} of all processes is not in it")
    size = distributed.get_world_size(group)

    def all_gather(own: bytes) -> bytes:
        parts: list[Any] = [None] * size
        distributed.all_gather_object(parts, own, group=group)
        return b"".join(parts)

    return rank, size, all_gather
