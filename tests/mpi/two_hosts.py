#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program with mpirun on two "hosts" of this machine, joined by one network link.

  two_hosts.py [--rate 1gbit] [--cut SECONDS] RANKS RANKS -- PROGRAM ARGUMENT...

A host is a set of namespaces: network, name, IPC, and for the second one process numbers and
mounts with a /dev/shm of its own, so that its ranks share nothing with those of the first but
files, and a clock that is ahead of the first one's, as clocks of hosts differ. Everything goes when this
program ends, however it does. --rate shapes both directions of the link (tc tbf).
--cut takes the link away so many seconds after every rank has printed something; every rank's output and exit code are then read
from files, since mpirun has lost half of them.

Needs root and the right to make namespaces; exits 77, which ctest takes for "skipped", without.
Exits with mpirun's code, or after a cut with 0 if every rank ended by itself within --limit.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = 77
ADDRESSES = ("10.77.0.1", "10.77.0.2")
LINKS = ("comet-a", "comet-b")
NAMES = ("comet-host-a", "comet-host-b")
CLOCK_AHEAD = 1000  # seconds
OPEN_MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


class Skip(Exception):
    """This machine does not let us make hosts."""


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f"{' '.join(command)}: {done.stderr.strip()}")


class Host:
    """Namespaces, kept by a process that sleeps in them and dies with this one."""

    def __init__(self, index: int):
        self.index = index
        kinds = ["--net", "--uts", "--ipc"]
        if index > 0:
            # The first keeps its numbers and mounts: there mpirun must find the second.
            kinds += ["--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
            kinds += ["--time", f"--monotonic={CLOCK_AHEAD}"]
        # In a session of its own a Ctrl-C does not reach it before us.
        self.keeper = subprocess.Popen(
            ["unshare", *kinds, "setpriv", "--pdeathsig", "KILL", "sleep", "infinity"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.find_sleeper()
        call(*self.enter("--uts"), "hostname", NAMES[index])
        if index > 0:
            call(*self.enter("--mount"), "mount", "-t", "tmpfs", "tmpfs", "/dev/shm")

    def find_sleeper(self) -> int:
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            if self.keeper.poll() is not None:
                raise Skip(f"unshare: {self.keeper.stderr.read().strip()}")
            pid = self.keeper.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            candidate = int(children[0]) if self.index > 0 and children else pid
            name = Path(f"/proc/{candidate}/comm").read_text().strip()
            if name == "sleep" and (self.index == 0 or children):
                return candidate
            time.sleep(0.01)
        raise Skip("unshare did not start a process")

    def enter(self, *kinds: str) -> list[str]:
        if not kinds:
            kinds = ("--net", "--uts", "--ipc") + (("--pid", "--mount", "--time") if self.index > 0 else ())
        return ["nsenter", "-t", str(self.pid), *kinds, "--"]

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # of the second: with all that runs in it
        self.keeper.kill()
        self.keeper.wait()


class TwoHosts:
    """Both hosts and the link between them."""

    def __init__(self, rate: str | None = None):
        if os.geteuid() != 0:
            raise Skip("only root may make hosts")
        self.hosts: list[Host] = []
        self.folder = tempfile.TemporaryDirectory(prefix="comet-two-hosts-")
        try:
            self.hosts = [Host(0)]
            self.hosts.append(Host(1))
            self.join(rate)
        except (Skip, FileNotFoundError) as error:
            self.close()
            raise Skip(str(error)) from error

    def __enter__(self) -> "TwoHosts":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def join(self, rate: str | None) -> None:
        ends = [str(host.pid) for host in self.hosts]
        call("ip", "link", "add", LINKS[0], "netns", ends[0], "type", "veth", "peer", "name",
             LINKS[1], "netns", ends[1])  # fmt: skip
        for host, address, link in zip(self.hosts, ADDRESSES, LINKS, strict=True):
            inside = host.enter("--net")
            call(*inside, "ip", "addr", "add", f"{address}/24", "dev", link)
            call(*inside, "ip", "link", "set", link, "up")
            call(*inside, "ip", "link", "set", "lo", "up")
            if rate:
                call(*inside, "tc", "qdisc", "add", "dev", link, "root", "tbf", "rate", rate,
                     "burst", "256kb", "latency", "20ms")  # fmt: skip

    def cut(self) -> None:
        call(*self.hosts[0].enter("--net"), "ip", "link", "set", LINKS[0], "down")

    def mpirun(
        self, ranks: tuple[int, int], program: list[str], variables: tuple[str, ...] = ()
    ) -> list[str]:
        """The command that runs `program` with so many ranks on each host, and in its environment
        these variables if they are set."""
        passed = ("LD_LIBRARY_PATH", *variables)
        agent = Path(self.folder.name) / "agent"
        there = shlex.join(self.hosts[1].enter())
        agent.write_text(f'#!/bin/sh\nshift\nexec {there} sh -c "$*"\n')
        agent.chmod(0o755)
        where = ",".join(f"{name}:{n}" for name, n in zip(ADDRESSES, ranks, strict=True))
        return [
            *self.hosts[0].enter(),
            *("mpirun", "--oversubscribe", "--bind-to", "none"),
            *("--mca", "plm_rsh_agent", str(agent)),
            *("--mca", "oob_tcp_if_include", "10.77.0.0/24"),
            *("--mca", "btl_tcp_if_include", "10.77.0.0/24"),
            *("--host", where, "-n", str(sum(ranks))),
            *(part for name in passed if name in os.environ for part in ("-x", name)),
            *program,
        ]

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.folder.cleanup()


def with_files(folder: Path, program: list[str]) -> list[str]:
    """The program with each rank's output and exit code in files of `folder`."""
    at = f"{shlex.quote(str(folder))}/$OMPI_COMM_WORLD_RANK"
    line = f"{shlex.join(program)} > {at}.out 2>&1; echo $? > {at}.tmp; mv {at}.tmp {at}.code"
    return ["sh", "-c", line]


def run_with_cut(hosts: TwoHosts, ranks: tuple[int, int], program: list[str], seconds: float,
                 limit: float) -> tuple[list[str], list[int | None], float]:  # fmt: skip
    """Every rank's output and exit code (None: it has not ended), seconds from the cut on."""
    folder = Path(hosts.folder.name)
    running = subprocess.Popen(
        hosts.mpirun(ranks, with_files(folder, program)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    codes = [folder / f"{rank}.code" for rank in range(sum(ranks))]
    outputs = [folder / f"{rank}.out" for rank in range(sum(ranks))]
    started = time.monotonic()
    # Until every rank has said something: then the world is there.
    while not all(out.exists() and out.stat().st_size > 0 for out in outputs):
        if time.monotonic() > started + 30:
            break
        time.sleep(0.01)
    time.sleep(seconds)
    hosts.cut()
    cut_at = time.monotonic()
    while not all(code.exists() for code in codes) and time.monotonic() < cut_at + limit:
        time.sleep(0.02)
    took = time.monotonic() - cut_at
    running.kill()
    running.wait()
    texts = [out.read_text() if out.exists() else "" for out in outputs]
    return texts, [int(code.read_text()) if code.exists() else None for code in codes], took


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", help="of the link, as tc reads it: 1gbit; default: no limit")
    parser.add_argument("--cut", type=float, help="seconds until the link is cut")
    parser.add_argument("--limit", type=float, default=30, help="seconds from the cut on")
    parser.add_argument("ranks", type=int, nargs=2, help="on the first and the second host")
    parser.add_argument("program", nargs="+", help="what mpirun runs")
    options = parser.parse_args()
    os.environ.update(OPEN_MPI)
    ranks = (options.ranks[0], options.ranks[1])
    try:
        with TwoHosts(options.rate) as hosts:
            if options.cut is None:
                return subprocess.run(hosts.mpirun(ranks, options.program), check=False).returncode
            texts, codes, took = run_with_cut(
                hosts, ranks, options.program, options.cut, options.limit
            )
    except Skip as reason:
        print(f"two_hosts: skipped: {reason}", file=sys.stderr)
        return SKIPPED
    for rank, (text, code) in enumerate(zip(texts, codes, strict=True)):
        print(f"rank {rank}, exit code {code}: {text.strip()}")
    print(f"all had ended {took:.2f} s after the cut" if None not in codes else "not all ended")
    return 0 if None not in codes else 1


if __name__ == "__main__":
    sys.exit(main())
