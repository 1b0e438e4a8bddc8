# SPDX-License-Identifier: Apache-2.0
"""Processes that torchrun starts for a benchmark of this folder, and the GPU of each."""

import os
import subprocess
import sys
from pathlib import Path

import torch

GRACE_S = 40  # torchrun waits 30 seconds for its processes


def is_rank():
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def take_gpu():
    """Neighbours share a GPU where there are fewer than processes, as a world has it."""
    local, here, gpus = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    torch.cuda.set_device(local if here <= gpus else local * gpus // here)


def start_ranks(script, ranks, arguments, environment, limit_s):
    """Runs `script` in so many processes; ValueError with one sentence if they fail or take too long."""
    run_limited([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
                 Path(script).resolve(), *arguments], "torchrun", {"CUDA_DEVICE_MAX_CONNECTIONS": "8", **environment},
                limit_s)


def run_limited(arguments, name, environment, limit_s):
    """Runs a program; ValueError with one sentence if it fails or takes too long."""
    print("#", *arguments, flush=True)
    try:
        process = subprocess.Popen(arguments, env={**os.environ, **environment})
    except OSError as error:
        raise ValueError(f"{name}: {error}") from error
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{name}: has not ended after {limit_s} s") from None
    finally:  # torchrun ends its processes, which are in sessions of their own, if it is asked to end
        end(process)
    if code != 0:
        raise ValueError(f"{name}: exit {code}")


def end(process):
    """Asks it to end if it runs, and kills it if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
