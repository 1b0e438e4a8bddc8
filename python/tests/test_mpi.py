# SPDX-License-Identifier: Apache-2.0
"""Worlds of processes, under mpirun; skipped where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import comet_moe

PLUGIN = Path(comet_moe.__file__).parent / "libcomet_mpi.so"


@pytest.mark.skipif(not PLUGIN.exists() or shutil.which("mpirun") is None, reason="no MPI")
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_are_processes(ranks):
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), sys.executable,
                           Path(__file__).parent / "mpi_ranks.py"], check=False, text=True, timeout=100,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert f"ok, {ranks} ranks" in done.stdout
