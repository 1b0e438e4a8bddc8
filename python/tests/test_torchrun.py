# SPDX-License-Identifier: Apache-2.0
"""Worlds of processes, under torchrun; skipped where there is no PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch.distributed")


def run(script, ranks, *arguments, limit_s=200):
    """What a script of this folder prints on so many processes."""
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
                           Path(__file__).parent / script, *arguments], check=False, text=True, timeout=limit_s,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_are_processes_of_the_group(ranks):
    assert f"ok, {ranks} ranks" in run("torchrun_ranks.py", ranks)


@pytest.mark.parametrize("ranks", [4, 8])
def test_models_with_expert_parallelism_give_what_one_process_gives(ranks, tmp_path):
    pytest.importorskip("transformers.distributed")
    pytest.importorskip("accelerate")  # which Transformers needs for it
    assert f"ok, {ranks} ranks" in run("torchrun_models.py", ranks, tmp_path)
