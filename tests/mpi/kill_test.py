#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a random rank of a command that mpirun has started: kill_test.py COMET.

On each host where others are left, one of them must name the dead rank, all must end within the
limit of 2 s plus 2 s, and mpirun must fail. Every other time there are two hosts, if they can be
made (two_hosts.py). COMET_MPI_KILLS sets how often (default 4).
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import two_hosts

TIMEOUT_MS = 2000
SECONDS_LEFT = 4.0
MARK = "COMET_KILL_TEST"


def find_ranks(mark: str) -> dict[int, int]:
    """Rank -> process number of all processes that carry the mark and a rank."""
    ranks = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            entries = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            name = (folder / "comm").read_text().strip()
        except OSError:  # it has ended, or is not ours
            continue
        values = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        if values.get(MARK) == mark and name == "comet" and "OMPI_COMM_WORLD_RANK" in values:
            ranks[int(values["OMPI_COMM_WORLD_RANK"])] = int(folder.name)
    return ranks


def has_world(pid: int, num_ranks: int) -> bool:
    """Whether a process has mapped a symmetric buffer of all ranks beside its words."""
    try:
        return (Path("/proc") / str(pid) / "maps").read_text().count("/memfd:comet") > num_ranks
    except OSError:
        return False


def wait_until(condition, seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def faults_of_kill(command: list[str], folder: Path, hosts: list[set[int]], victim: int,
                   seconds: float) -> list[str]:  # fmt: skip
    """What went wrong. `hosts` has the ranks of each host; rank r writes to folder/r.out."""
    mark = os.environ[MARK]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    num_ranks = sum(len(ranks) for ranks in hosts)

    def all_have_worlds() -> bool:
        ranks = find_ranks(mark)
        return len(ranks) == num_ranks and all(has_world(p, num_ranks) for p in ranks.values())

    if not wait_until(all_have_worlds, 30):
        running.kill()
        return [f"ranks {sorted(find_ranks(mark))} of {num_ranks} have started, or not all joined"]
    time.sleep(seconds)
    os.kill(find_ranks(mark)[victim], 9)
    killed_at = time.monotonic()
    faults = []
    if not wait_until(lambda: not find_ranks(mark), SECONDS_LEFT):
        faults.append(f"ranks {sorted(find_ranks(mark))} still run after {SECONDS_LEFT} s")
        for pid in find_ranks(mark).values():
            os.kill(pid, 9)
    try:
        if running.wait(timeout=10) == 0:
            faults.append("mpirun ended with 0")
    except subprocess.TimeoutExpired:
        running.kill()
        faults.append(f"mpirun still runs {time.monotonic() - killed_at:.1f} s later")
    for ranks in hosts:
        texts = [(folder / f"{rank}.out").read_text() for rank in ranks if rank != victim]
        if texts and not any(f"rank {victim} is gone" in text for text in texts):
            faults.append(f"no rank of {sorted(ranks)} names rank {victim}: {texts}")
    return faults


def run_once(comet: str, kill: int, rng: random.Random) -> list[str]:
    num_ranks = rng.choice([2, 3, 4])
    victim = rng.randrange(num_ranks)
    first = rng.randrange(1, num_ranks) if kill % 2 else num_ranks
    hosts = [set(range(first)), set(range(first, num_ranks))]
    with tempfile.TemporaryDirectory(prefix="comet-kill-") as name:
        folder = Path(name)
        os.environ.update({MARK: folder.name, "COMET_TIMEOUT_MS": str(TIMEOUT_MS)})
        line = f"exec {comet} check --random 1000000 > {name}/$OMPI_COMM_WORLD_RANK.out 2>&1"
        program = ["sh", "-c", line]
        seconds = rng.uniform(0, 0.5)
        if first == num_ranks:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(num_ranks)]
            return faults_of_kill([*command, *program], folder, hosts[:1], victim, seconds)
        with two_hosts.TwoHosts() as both:
            command = both.mpirun((first, num_ranks - first), program, (MARK, "COMET_TIMEOUT_MS"))
            return faults_of_kill(command, folder, hosts, victim, seconds)


def main() -> int:
    os.environ.update(two_hosts.OPEN_MPI)
    kills = int(os.environ.get("COMET_MPI_KILLS", "4"))
    rng = random.Random(11)
    num_skipped = 0
    for kill in range(kills):
        try:
            faults = run_once(sys.argv[1], kill, rng)
        except two_hosts.Skip:
            num_skipped += 1
            continue
        if faults:
            print(f"kill {kill}:", *faults, sep="\n  ")
            return 1
    print(
        f"ok: {kills - num_skipped} kills, the dead rank was named and all had ended within "
        f"{SECONDS_LEFT} s{f'; {num_skipped} on two hosts skipped' if num_skipped else ''}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
