# SPDX-License-Identifier: Apache-2.0
"""World: the ranks that share a layer's work."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from comet_moe import _core
from comet_moe._errors import InvalidArgumentError
from comet_moe._types import require_types


_worlds: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def world_of(handle: int) -> World:
    """The world of a handle; InvalidArgumentError if it is gone."""
    world = _worlds.get(handle)
    if world is None:
        raise InvalidArgumentError(f"[world] handle: {handle}, no world of this process has it")
    return world


class World:
    """Ranks, and what joins them. Make one with `World.local`, `World.from_mpi` or
    `World.from_torch_distributed`; it may be used from any thread, whose calls take turns. In a child that was forked
    from its process it and its layers are dead: calls raise InvalidArgumentError, and a new world is to be made."""

    def __init__(self, core: _core.WorldPart) -> None:
        if not isinstance(core, _core.WorldPart):
            raise InvalidArgumentError(f"[world] {core!r}: worlds are made by World.local, World.from_mpi or "
                                       "World.from_torch_distributed")
        self._core = core
        #: Whether all ranks are threads of this process.
        self.is_local: bool = core.kind == "local"
        # Layers that comet_moe.moe keeps, and the lock under which they are made.
        self.kept = _core.KeptLayers(core)
        self.lock = threading.Lock()
        #: Names this world to the operator of PyTorch; no other of the process has had it.
        self.handle: int = self.kept.handle
        _worlds[self.handle] = self

    @staticmethod
    def local(ranks: int = 1, *, link: str = "native", backend: str = "cpu", timeout_ms: int = 0) -> World:
        """Ranks are threads of this process, and calls get the tokens and weights of all of them.

        link: "native", or "paced:<GB/s>" to EMULATE a slower one between the ranks. backend: "cpu", or "cuda", whose
        ranks share the current Hopper GPU (torch.cuda.set_device), each on its own multiprocessors; with several ranks,
        have CUDA_DEVICE_MAX_CONNECTIONS=32 in the environment before PyTorch starts CUDA. timeout_ms: longest wait for
        a rank; 0 takes COMET_TIMEOUT_MS of the environment, else 30 s.
        """
        require_types("world", {"ranks": ranks, "timeout_ms": timeout_ms}, {"link": link, "backend": backend})
        return World(_core.WorldPart.local(ranks, link, backend, timeout_ms))

    @staticmethod
    def from_mpi(*, timeout_ms: int = 0) -> World:
        """This process is one rank of those that mpirun has started, on one host or several, and calls get its own
        tokens. All processes call it, and then the same layers in the same order."""
        require_types("world", {"timeout_ms": timeout_ms})
        return World(_core.WorldPart.mpi(timeout_ms))

    @staticmethod
    def from_torch_distributed(group: Any = None, *, backend: str = "cpu", timeout_ms: int = 0) -> World:
        """This process is one rank of `group`, a ProcessGroup of torch.distributed or a DeviceMesh of one dimension,
        None for all processes that torchrun has started. They may be on several hosts; all of them call it, and
        then the same layers in the same order, each with its own tokens. The group is used here and never after.

        backend: "cpu", or "cuda": ranks spread over the Hopper GPUs of their host, and those that share one, under
        NVIDIA's MPS, have their own multiprocessors each. MPS has not queues enough for many processes with more than
        8 each, so CUDA_DEVICE_MAX_CONNECTIONS=8 is set here, if it is unset and CUDA has not started in this process;
        else a RuntimeWarning says so where ranks share a GPU. It needs NVSHMEM, which PyTorch's packages for CUDA
        bring. A process belongs to one set of ranks on GPUs until it ends."""
        require_types("world", {"timeout_ms": timeout_ms}, {"backend": backend})
        from comet_moe import _nvshmem, _queues
        from comet_moe.torch_group import join
        rank, size, all_gather = join(group)
        if backend == "cuda":
            import torch
            _queues.ask_for_few(torch.cuda, rank, size)
            _nvshmem.load()
        return World(_core.WorldPart.processes("torch.distributed", rank, size, all_gather, backend, timeout_ms))

    @property
    def size(self) -> int:
        """How many ranks."""
        return self._core.size

    @property
    def rank(self) -> int:
        """This process's rank; 0 where it has all."""
        return self._core.first_rank

    @property
    def backend(self) -> str:
        """Where arrays must lie: "cpu" or "cuda"."""
        return self._core.backend

    @property
    def link(self) -> str:
        """What joins them, as `local` takes it."""
        return self._core.link

    def barrier(self) -> None:
        """Returns once all ranks have called it."""
        self._core.barrier()

    def recover(self) -> None:
        """Makes the world good again after a call that failed with a timeout or an internal error. All ranks
        call it."""
        self._core.recover()

    def __repr__(self) -> str:
        backend = "" if self.backend == "cpu" else f"backend={self.backend!r}"
        if self.is_local:
            return f"World.local({self.size}, link={self.link!r}{backend and ', '}{backend})"
        maker = "from_mpi" if self._core.kind == "mpi" else "from_torch_distributed"
        return f"World.{maker}({backend}), rank {self.rank} of {self.size}"


def require_world(stage: str, world: Any) -> None:
    """Raises InvalidArgumentError unless it is a World, as a number of ranks is not."""
    if not isinstance(world, World):
        raise InvalidArgumentError(f"[{stage}] world: {world!r}, a World is needed, as World.local makes")


_defaults: dict[str, World] = {}
_defaults_lock = threading.Lock()


def default_world(array: Any) -> World:
    """A world of one rank on the CPU, or on the GPU that is current at its first use, as `array` lies on either: what
    calls run on that name none."""
    backend = "cuda" if getattr(array, "is_cuda", False) else "cpu"
    world = _defaults.get(backend)  # without the lock, as nearly all calls go
    if world is not None:
        return world
    with _defaults_lock:
        if backend not in _defaults:
            _defaults[backend] = World.local(1, backend=backend)
        return _defaults[backend]


def _begin_anew() -> None:
    """In a forked child: the parent's default worlds are dropped, with the layers they keep."""
    global _defaults_lock
    _core.after_fork_in_child()
    _defaults_lock = threading.Lock()  # another thread of the parent may have held it
    _defaults.clear()


os.register_at_fork(before=_core.before_fork, after_in_parent=_core.after_fork_in_parent, after_in_child=_begin_anew)
