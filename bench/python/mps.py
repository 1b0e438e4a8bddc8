# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's MPS, without which the kernels of processes that share a GPU take turns."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time

CONTROL = "nvidia-cuda-mps-control"
LIMIT_S = 10  # to start, and to end


@contextlib.contextmanager
def private_mps():
    """An MPS for whatever is started meanwhile, by the environment of this process, which must not have started CUDA.
    The user's is taken if CUDA_MPS_PIPE_DIRECTORY names one. ValueError with one sentence if none can be had."""
    if os.environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="comet-mps-") as folder:
        names = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(names)
        try:
            with start_daemon():
                yield
        finally:
            for name in names:
                os.environ.pop(name, None)


@contextlib.contextmanager
def start_daemon():
    """The daemon, in a session of its own, which ends here."""
    try:
        daemon = subprocess.Popen([CONTROL, "-f"], start_new_session=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise ValueError(f"MPS, which processes that share a GPU need, does not start: {error}") from error
    try:
        end = time.monotonic() + LIMIT_S
        while not ask("get_server_list"):
            if daemon.poll() is not None or time.monotonic() > end:
                raise ValueError("MPS, which processes that share a GPU need, does not start")
            time.sleep(0.05)
        yield
    finally:
        ask("quit")
        try:
            daemon.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)  # its servers are of its session
            daemon.wait()


def ask(command):
    """Whether the daemon has answered."""
    try:
        return subprocess.run([CONTROL], input=command + "\n", text=True, check=False, timeout=LIMIT_S,
                              capture_output=True).returncode == 0
    except subprocess.TimeoutExpired:
        return False
