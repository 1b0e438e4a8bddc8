# SPDX-License-Identifier: Apache-2.0
"""The command `comet`, which the package brings: bench, and whatever else it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from comet_moe import _nvshmem
from comet_moe._errors import CometError
from comet_moe._progress import run_with_bar, tqdm_or_none

#: Where the command lies.
PATH = Path(__file__).resolve().parent / "bin" / "comet"


def run(*arguments: str) -> str:
    """Runs `comet` with these arguments and returns what it printed; a CometError with its sentence if it
    failed."""
    done = subprocess.run([PATH, *arguments], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=_nvshmem.environment())
    if done.returncode != 0:
        raise CometError(done.stderr.strip() or f"comet {' '.join(arguments)}: exit {done.returncode}")
    return done.stdout


def bench(**flags: object) -> list[dict]:
    """Runs `comet bench` and returns its rows, a dict per schedule; docs/benchmarks.md has the keys.

    Flags are the command's, with _ for -: bench(model="qwen2-moe", scale="demo", world="local:4",
    link="paced:auto:0.6"). True stands for a flag without a value, False and None
    leave it out. Shows its progress where tqdm is installed, else on a terminal.
    """
    arguments = []
    for name, value in flags.items():
        if value is False or value is None:
            continue
        arguments.append(f"--{name.replace('_', '-')}")
        if value is not True:
            arguments.append(str(value))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        status, text = _run_long([PATH, "bench", *arguments, "--json", path])
        if status != 0:
            raise CometError(text.strip() or f"comet bench: exit {status}")
        if not path.exists():  # as with --help
            raise CometError(f"[bench] flags: with {' '.join(arguments) or 'none'} `comet bench` measures nothing; "
                             "what it prints is seen in a terminal")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _run_long(arguments: list) -> tuple[int, str]:
    """Exit status and what went wrong, of a call whose progress is worth seeing."""
    tqdm = tqdm_or_none()
    if tqdm is not None:
        return run_with_bar(tqdm, arguments, _nvshmem.environment())
    done = subprocess.run(arguments, check=False, text=True, stdout=subprocess.DEVNULL,
                          stderr=None if sys.stderr.isatty() else subprocess.PIPE, env=_nvshmem.environment())
    return done.returncode, done.stderr or ""


def main() -> None:
    """`comet`, for the script of that name and `python -m comet_moe.command`."""
    os.execve(PATH, [str(PATH), *sys.argv[1:]], _nvshmem.environment())
