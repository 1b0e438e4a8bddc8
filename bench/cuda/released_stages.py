#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claim: each stage of comet with one group is nearer to its bound than the released COMET's is.

The shape is the released code's own benchmark: 8192 tokens, 32 experts, top-k 4, H = I = 8192, no gate,
TP8. Its times on 8 H800 are 1.146 ms and 1.863 ms, where a product takes 0.55 ms and its communication
0.59 ms: efficiencies of 0.53 and 0.32. Here 8 ranks share one GPU, and an EMULATED link makes
communication 0.59 / 0.55 of computation. A stage's bound is the larger of its computation and its
communication, half of the call's each. The first stage ends with the last first GEMM of all ranks and
has the plan in it; the second is the rest.

Rows, of suite "overlap" and kind "stages", go to the file that COMET_ROWS names, if any.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from overlap_grid import CLAIMS_BROKEN, add_origin, run_bench

RELEASED = (0.53, 0.32)  # efficiency of the stages
SHAPE = ("--experts 32 --topk 4 --hidden 8192 --intermediate 8192 --ungated --tokens 8192 "
         "--world local:8 --tp 8 --backend cuda --dtype bf16 --groups 1").split()
LINK = f"paced:auto:{0.59 / 0.55:.2f}"


def stage_times(comet, options):
    """Microseconds of both stages in the median call that `comet trace` records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        done = subprocess.run([comet, "trace", *options, "--out", path], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\nreleased_stages: {' '.join(options)}: exit {done.returncode}")
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    ends = [span["ts"] + span["dur"] for span in spans]
    first = max(span["ts"] + span["dur"] for span in spans if span["name"] == "first_gemm")
    return first, max(ends) - first


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", type=Path, required=True, help="the command, built with CUDA")
    parser.add_argument("--check", action="store_true", help=f"exit {CLAIMS_BROKEN} if the claim does not hold")
    arguments = parser.parse_args()
    comet = arguments.comet.resolve()
    rows = run_bench(comet, [*SHAPE, "--link", LINK, "--schedules", "comet", "--suite", "overlap"])
    row = next(row for row in rows if row["schedule"] == "comet")
    link = f"paced:{row['link_gbs']:.3f}"
    options = [*SHAPE, "--link", link, "--schedules", "comet", "--panel", str(row["panel"]),
               "--placement", row["communication"], "--n-c-dispatch", str(row["n_c_dispatch"]),
               "--n-c-combine", str(row["n_c_combine"]), "--waves", str(row["waves"] or "auto")]
    times = stage_times(comet, options)
    bound = max(row["t_compute_us"], row["t_link_us"]) / 2
    efficiencies = [bound / time for time in times]
    holds = all(here >= released for here, released in zip(efficiencies, RELEASED))
    row.update({"kind": "stages", "t_stages_us": times, "efficiency_stages": efficiencies})
    add_origin(row, holds or not arguments.check)
    print(f"computation {row['t_compute_us'] / 1000:.2f} ms, communication {row['t_link_us'] / 1000:.2f} ms "
          f"(EMULATED, {row['link_gbs']:.1f} GB/s), call {row['t_layer_us'] / 1000:.2f} ms; when traced "
          f"{sum(times) / 1000:.2f} ms")
    for name, time, here, released in zip(("dispatch_gemm", "gemm_combine"), times, efficiencies, RELEASED):
        print(f"  {name:<13} {time / 1000:6.2f} ms  efficiency {here:.2f}, released COMET {released:.2f}")
    path = os.environ.get("COMET_ROWS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return CLAIMS_BROKEN if arguments.check and not holds else 0


if __name__ == "__main__":
    sys.exit(main())
