# SPDX-License-Identifier: Apache-2.0
"""NVSHMEM as PyTorch's packages for CUDA bring it, which no loader finds by itself."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
from pathlib import Path

HOME = "NVSHMEM_HOME"


def find() -> Path | None:
    """The folder of the Python package, if it is installed and NVSHMEM_HOME names no other."""
    if os.environ.get(HOME):
        return None
    with contextlib.suppress(ImportError):
        spec = importlib.util.find_spec("nvidia.nvshmem")
        for folder in spec.submodule_search_locations or [] if spec else []:
            return Path(folder)
    return None


def load() -> None:
    """Loads it in this process. What is missing is said where a world wants it."""
    folder = find()
    if folder is not None:
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(folder / "lib" / "libnvshmem_host.so.3"), mode=ctypes.RTLD_GLOBAL)


def environment() -> dict[str, str]:
    """This process's, for a command that is to find it, too."""
    folder = find()
    return {**os.environ, **({} if folder is None else {HOME: str(folder)})}
