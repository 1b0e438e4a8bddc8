#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claim: on 8 ranks that share one Hopper GPU, what a layer waits for before its first byte moves
(headers, ids, plan) takes at most 40 us or 2 % of sequential's whole call, whichever is more.

Runs `comet bench`, which checks every result, on whole models over an EMULATED link, and prints its
tables; appends its rows, of suite "layer", to the file that COMET_ROWS names, if any.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = ("mixtral-8x7b", "qwen2-moe-2.7b", "phi-3.5-moe")
TOKENS = (8192, 32768)  # of all ranks together
OPTIONS = ("--world local:8 --ep 8 --backend cuda --dtype bf16 --link paced:20 "
           "--schedules sequential,pipelined").split()
PLAN_US, PLAN_SHARE = 40, 0.02


def run_case(comet, model, tokens):
    """The rows of one case, as the binary writes them."""
    options = ["--model", model, "--tokens", str(tokens), *OPTIONS, "--suite", "layer"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        subprocess.run([comet, "bench", *options, "--json", path], check=True)
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["command"] = " ".join(["comet bench", *options])
    return rows


def add_origin(row, passed):
    """What rows of a GPU suite have; evidence is the suite's hash and not the binary's own."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    row.update({
        "kind": "layer", "result": "passed" if passed else "failed", "gpu": row["device"],
        "date": date, "run": os.environ.get("COMET_RUN", date),
        "commit": os.environ.get("COMET_COMMIT", row["commit"]),
        "evidence": os.environ.get("COMET_EVIDENCE", "unknown"),
    })
    return row


def check_rows(rows):
    """Whether the claim holds for the rows of one case; prints those for which it does not."""
    sequential = next(row for row in rows if row["schedule"] == "sequential")
    allowed = max(PLAN_US, PLAN_SHARE * sequential["t_layer_us"])
    late = [row for row in rows if not row["t_plan_us"] <= allowed]
    for row in late:
        print(f"  {row['schedule']}: plan {row['t_plan_us']:.1f} us, allowed {allowed:.1f}", flush=True)
    return not late


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", type=Path, required=True, help="the command, built with CUDA")
    parser.add_argument("--check", action="store_true", help="exit 1 if the claim does not hold")
    arguments = parser.parse_args()
    all_hold = True
    for model in MODELS:
        for tokens in TOKENS:
            rows = run_case(arguments.comet.resolve(), model, tokens)
            holds = check_rows(rows)
            all_hold &= holds
            path = os.environ.get("COMET_ROWS")
            if path:
                passed = holds or not arguments.check
                with open(path, "a", encoding="utf-8") as file:
                    file.writelines(json.dumps(add_origin(row, passed)) + "\n" for row in rows)
    return 1 if arguments.check and not all_hold else 0


if __name__ == "__main__":
    sys.exit(main())
