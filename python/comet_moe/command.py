# SPDX-License-Identifier: Apache-2.0
"""The command `comet`, which the package brings: bench, and whatever else it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from comet_moe._errors import CometError

#: Where the command lies.
PATH = Path(__file__).resolve().parent / "bin" / "comet"


def run(*arguments: str) -> str:
    """Runs `comet` with these arguments and returns what it printed; a CometError with its sentence if it
    failed."""
    done = subprocess.run([PATH, *arguments], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise CometError(done.stderr.strip() or f"comet {' '.join(arguments)}: exit {done.returncode}")
    return done.stdout


def bench(**flags: object) -> list[dict]:
    """Runs `comet bench` and returns its rows, a dict per schedule; docs/benchmarks.md has the keys.

    Flags are the command's, with _ for -: bench(model="qwen2-moe", scale="demo", world="local:4",
    link="paced:auto:0.6"). True stands for a flag without a value. Progress goes to the terminal.
    """
    arguments = []
    for name, value in flags.items():
        arguments.append(f"--{name.replace('_', '-')}")
        if value is not True:
            arguments.append(str(value))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        done = subprocess.run([PATH, "bench", *arguments, "--json", path], check=False, text=True,
                              stdout=subprocess.DEVNULL, stderr=None if sys.stderr.isatty() else subprocess.PIPE)
        if done.returncode != 0:
            raise CometError((done.stderr or "").strip() or f"comet bench: exit {done.returncode}")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """`comet`, for the script of that name."""
    os.execv(PATH, ["comet", *sys.argv[1:]])
