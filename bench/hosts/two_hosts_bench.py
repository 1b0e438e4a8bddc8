#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What overlap gains over a real TCP link: two hosts made of namespaces on one machine.

  two_hosts_bench.py COMET OUT.jsonl [--ratio 0.6] [--check]

Runs `comet bench` over world mpi with one rank on each host, first without a limit on the link to
find how long computation alone takes and how many bytes cross, then with the link shaped (tc tbf)
so that those bytes take `ratio` times as long. The link's rate is real and its bytes cross the
kernel's TCP twice, on the same two processors that compute; rows say so in "link_shaping".
Appends the rows of the second run to OUT.jsonl and prints the figures. --check exits 1 unless comet
is at least 1.3 times as fast as sequential and the bytes between hosts are those of the plan.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "mpi"))
import two_hosts  # noqa: E402

LEAST_SPEEDUP = 1.3
# Ethernet, IP and TCP headers of full segments; the shaper counts them.
FRAMING = 1514 / 1448


def bench(comet: str, rate: str | None, arguments: list[str]) -> list[dict]:
    """The rows of one run."""
    with two_hosts.TwoHosts(rate) as hosts, tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        command = hosts.mpirun((1, 1), [comet, "bench", *arguments, "--json", str(rows)])
        subprocess.run(command, check=True)
        return [json.loads(line) for line in rows.read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comet", help="the command")
    parser.add_argument("out", help="where to append the rows")
    parser.add_argument("--ratio", type=float, default=0.6, help="communication over computation")
    parser.add_argument("--model", default="mixtral")
    parser.add_argument("--rounds", default="7")
    parser.add_argument("--check", action="store_true", help="fail if the claims do not hold")
    options = parser.parse_args()
    os.environ.update(two_hosts.OPEN_MPI)
    arguments = ["--model", options.model, "--scale", "demo", "--ep", "2", "--tp", "1"]
    arguments += ["--workers", "1", "--rounds", options.rounds, "--suite", "two-hosts"]
    comet = str(Path(options.comet).resolve())
    try:
        free = bench(comet, None, [*arguments, "--schedules", "sequential"])[0]
        # Each direction carries half of what crosses, if routing is even.
        seconds = options.ratio * free["t_compute_us"] * 1e-6
        rate = int(free["host_bytes_sent"] / 2 * FRAMING * 8 / seconds)
        rows = bench(comet, f"{rate}bit", arguments)
    except two_hosts.Skip as reason:
        print(f"two_hosts_bench: skipped: {reason}", file=sys.stderr)
        return two_hosts.SKIPPED
    shaping = f"tc tbf rate {rate}bit on both ends of a veth pair, 2 hosts of one machine"
    with open(options.out, "a", encoding="utf-8") as out:
        for row in rows:
            row.update(command=" ".join(["comet", "bench", *arguments]), link_shaping=shaping)
            out.write(json.dumps(row) + "\n")
    by_schedule = {row["schedule"]: row for row in rows}
    comet_row, sequential = by_schedule["comet"], by_schedule["sequential"]
    speedup = sequential["t_layer_us"] / comet_row["t_layer_us"]
    link_us = sequential["host_bytes_sent"] / 2 * FRAMING * 8 / rate * 1e6
    is_planned = all(row["host_bytes_sent"] == row["host_bytes_planned"] for row in rows)
    print(
        f"computation alone {sequential['t_compute_us'] / 1e3:.1f} ms, communication alone "
        f"{link_us / 1e3:.1f} ms at {rate / 1e6:.0f} Mbit/s\n"
        f"sequential {sequential['t_layer_us'] / 1e3:.1f} ms, comet "
        f"{comet_row['t_layer_us'] / 1e3:.1f} ms: {speedup:.2f} times as fast\n"
        f"{sequential['host_bytes_sent']} bytes between hosts, "
        f"{'as planned' if is_planned else 'NOT as planned'}"
    )
    if options.check and (speedup < LEAST_SPEEDUP or not is_planned):
        print(f"two_hosts_bench: asked are {LEAST_SPEEDUP} and equal bytes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
