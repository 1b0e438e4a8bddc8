# SPDX-License-Identifier: Apache-2.0
"""Run by torchrun (test_torchrun.py): every rank checks layers on the whole group, on groups of two and on a
dimension of a mesh; rank 0 says ok."""

import contextlib

import torch
from torch import distributed

import comet_moe
from rank_checks import check_layers


@contextlib.contextmanager
def refused(words):
    try:
        yield
    except comet_moe.CometError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"nothing said {words}")


def main():
    with refused("call torch.distributed.init_process_group() first"):
        comet_moe.World.from_torch_distributed()
    distributed.init_process_group("gloo")
    n, r = distributed.get_world_size(), distributed.get_rank()
    if not any(backend["name"] == "cuda" and backend["built"] for backend in comet_moe.doctor()["backends"]):
        with refused("this build has no CUDA backend"):
            comet_moe.World.from_torch_distributed(backend="cuda")
    with refused("tpu"):
        comet_moe.World.from_torch_distributed(backend="tpu")
    world = comet_moe.World.from_torch_distributed(backend="cpu", timeout_ms=20000)
    assert repr(world) == f"World.from_torch_distributed(), rank {r} of {n}"
    assert not world.is_local and (world.rank, world.size) == (r, n)
    check_layers(world)
    pairs = [distributed.new_group([first, first + 1]) for first in range(0, n, 2)]
    pair = comet_moe.World.from_torch_distributed(pairs[r // 2])
    assert (pair.rank, pair.size) == (r % 2, 2)
    check_layers(pair)
    if n > 2:
        with refused(f"rank {r} of all processes is not in it"):
            comet_moe.World.from_torch_distributed(pairs[(r // 2 + 1) % len(pairs)])
        mesh = distributed.device_mesh.init_device_mesh("cpu", (n // 2, 2), mesh_dim_names=("dp", "ep"))
        with refused("a DeviceMesh of 2 dimensions"):
            comet_moe.World.from_torch_distributed(mesh)
        across = comet_moe.World.from_torch_distributed(mesh["dp"])
        assert (across.rank, across.size) == (r // 2, n // 2)
        check_layers(across)
    distributed.barrier()
    distributed.destroy_process_group()
    check_layers(world)  # which needs the group no more
    if r == 0:
        print(f"ok, {n} ranks", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
