# SPDX-License-Identifier: Apache-2.0
"""Examples in Python run as they stand; those of PyTorch where it is."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(folder, processes=None):
    """What an example prints, alone or under torchrun."""
    launcher = [] if processes is None else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                                             str(processes)]
    done = subprocess.run([sys.executable, *launcher, EXAMPLES / folder / "main.py"], check=False, text=True,
                          timeout=200, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_python():
    assert "ok: as plain NumPy" in run("03_python")


def test_torchrun():
    pytest.importorskip("torch.distributed")
    assert run("04_torchrun", 4).count("ok: rank ") == 4


@pytest.mark.parametrize("processes", [None, 4])
def test_transformers(processes):
    pytest.importorskip("transformers")
    if processes is not None:
        pytest.importorskip("accelerate")
    assert f"ok: {processes or 1} process" in run("05_transformers", processes)
