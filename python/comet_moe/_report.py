# SPDX-License-Identifier: Apache-2.0
"""What this installation has, what it lacks and how to get it: `python -m comet_moe.doctor`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from typing import Any, NoReturn

from comet_moe import _command
from comet_moe._errors import CometError

_OPTIONAL = {
    "numpy": "arrays to call the layer with: pip install numpy",
    "torch": "tensors and the operator torch.ops.comet_moe.moe: see https://pytorch.org for how to install it",
    "tqdm": "progress of bench: pip install 'comet-moe[progress]'",
    "matplotlib": "pictures of plans: pip install 'comet-moe[plot]'",
}


def doctor() -> dict:
    """The report as data: what `comet info --json` says, and "python" with what lies beside this package."""
    report = json.loads(_command.run("info", "--json"))
    packages = []
    for name, use in _OPTIONAL.items():
        try:
            packages.append({"name": name, "version": importlib.metadata.version(name), "use": use})
        except importlib.metadata.PackageNotFoundError:
            packages.append({"name": name, "version": None, "use": use})
    report["python"] = {"version": sys.version.split()[0], "packages": packages}
    return report


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as `comet` does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: see {self.prog} --help\n")

    def print_help(self, file: Any = None) -> None:
        _print(self.format_help().rstrip("\n"))


def _print(text: str) -> None:
    """Ends the process in silence if the reader has seen enough, as head, else with a sentence, if that fails."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left in the buffer would fail again as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"comet_moe.doctor: cannot write to standard output: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _text() -> str:
    report = doctor()["python"]
    lines = [f"  {package['name']:<10} {package['version'] or 'not found':<12} {package['use']}"
             for package in report["packages"]]
    return "\n".join([_command.run("info").rstrip("\n"), f"\npython {report['version']}", *lines])


def main() -> None:
    """Prints the report. Exit status: 0, 1 where it cannot be printed, 2 for arguments that it does not know."""
    parser = _Parser(prog="comet_moe.doctor", description="What this installation of Comet has, what it lacks and how "
                     "to get it.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    arguments = parser.parse_args()
    try:
        report = json.dumps(doctor(), indent=2) if arguments.json else _text()
    except CometError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    _print(report)
