# SPDX-License-Identifier: Apache-2.0
"""Run by mpirun (test_mpi.py): every rank checks layers; rank 0 says ok."""

import comet_moe
from rank_checks import check_layers

world = comet_moe.World.from_mpi(timeout_ms=20000)
assert repr(world) == f"World.from_mpi(), rank {world.rank} of {world.size}"
check_layers(world)
if world.rank == 0:
    print(f"ok, {world.size} ranks", flush=True)
