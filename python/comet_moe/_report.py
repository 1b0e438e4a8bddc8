# SPDX-License-Identifier: Apache-2.0
"""What this installation has, what it lacks and how to get it: `python -m comet_moe.doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import sys

from comet_moe import command

_OPTIONAL = {
    "numpy": "arrays to call the layer with: pip install numpy",
    "torch": "tensors and the operator torch.ops.comet_moe.moe: see https://pytorch.org for how to install it",
    "tqdm": "progress of bench: pip install 'comet-moe[progress]'",
    "matplotlib": "pictures of plans: pip install 'comet-moe[plot]'",
}


def doctor() -> dict:
    """The report as data: what `comet info --json` says, and "python" with what lies beside this package."""
    report = json.loads(command.run("info", "--json"))
    packages = []
    for name, use in _OPTIONAL.items():
        try:
            packages.append({"name": name, "version": importlib.metadata.version(name), "use": use})
        except importlib.metadata.PackageNotFoundError:
            packages.append({"name": name, "version": None, "use": use})
    report["python"] = {"version": sys.version.split()[0], "packages": packages}
    return report


def main() -> None:
    """Prints the report."""
    print(command.run("info").rstrip("\n"))
    report = doctor()["python"]
    print(f"\npython {report['version']}")
    for package in report["packages"]:
        print(f"  {package['name']:<10} {package['version'] or 'not found':<12} {package['use']}")

