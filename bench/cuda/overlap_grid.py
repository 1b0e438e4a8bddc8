#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claims: on 8 ranks that share one Hopper GPU, a call of comet never takes more than 1.03 times the
best pipelined; and what a layer waits for before its first byte moves (headers, ids, plan) takes at
most 40 us or 2 % of sequential's whole call, whichever is more.

Runs `comet bench`, which checks every result, on whole models, and prints what each case gained;
appends its rows, of suite "overlap", to the file that COMET_ROWS names, if any. Links named paced are
EMULATED.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = ("mixtral-8x7b", "qwen2-moe-2.7b", "phi-3.5-moe")
TOKENS = ("8192", "32768")  # of all ranks together
SPLITS = ("8x1", "4x2", "1x8")  # EP x TP
LINKS = ("paced:20",)
PLAN_US, PLAN_SHARE = 40, 0.02
OVER_PIPELINED = 1.03
CLAIMS_BROKEN = 3  # exit code; 1 is for what is wrong
# Where communication takes this part of computation, its hidden share says how good the overlap is;
# elsewhere the bound does.
JUDGED = (0.25, 1.0)


def run_bench(comet, options):
    """The rows of one `comet bench`, as the binary writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        done = subprocess.run([comet, "bench", *options, "--json", path], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\noverlap_grid: {' '.join(options)}: exit {done.returncode}")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["command"] = " ".join(["comet bench", *options])
    return rows


def run_case(comet, model, tokens, split, link, with_blocks):
    """Rows of sequential, the best pipelined and the best comet; of comet with one group; and of the best
    comet that communicates on blocks of its own, if asked for."""
    ep, tp = split.split("x")
    options = ["--model", model, "--tokens", tokens, "--world", "local:8", "--ep", ep, "--tp", tp,
               "--backend", "cuda", "--dtype", "bf16", "--link", link, "--suite", "overlap"]
    warps = [*options, "--placement", "warps"]
    runs = {"best": run_bench(comet, [*warps, "--schedules", "sequential,pipelined,comet"]),
            "g1": run_bench(comet, [*warps, "--schedules", "sequential,comet", "--groups", "1"])}
    if with_blocks:
        runs["blocks"] = run_bench(comet, [*options, "--placement", "blocks", "--schedules",
                                           "sequential,comet"])
    for kind, rows in runs.items():
        for row in rows:
            row["kind"] = kind
    return runs


def add_origin(row, passed):
    """What rows of a GPU suite have; evidence is the suite's hash and not the binary's own."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    row.update({
        "result": "passed" if passed else "failed", "gpu": row["device"],
        "date": date, "run": os.environ.get("COMET_RUN", date),
        "commit": os.environ.get("COMET_COMMIT", row["commit"]),
        "evidence": os.environ.get("COMET_EVIDENCE", "unknown"),
    })
    return row


def number(value, form):
    return "-" if value is None else format(value, form)


def time_text(runs, kind):
    """Milliseconds of comet in one of the runs."""
    row = next(row for row in runs[kind] if row["schedule"] == "comet")
    return f"{row['t_layer_us'] / 1000:.2f}"


def judge(runs):
    """Prints one line of a case; what breaks a claim, and the hidden share if it is to be judged."""
    by_name = {row["schedule"]: row for row in runs["best"]}
    sequential, pipelined, comet = (by_name[name] for name in ("sequential", "pipelined", "comet"))
    others = f"G=1 {time_text(runs, 'g1')}"
    if "blocks" in runs:
        others += f", blocks {time_text(runs, 'blocks')}"
    over = comet["t_layer_us"] / pipelined["t_layer_us"]
    link = comet["t_link_us"]
    ratio = None if link is None else link / comet["t_compute_us"]
    print(f"{comet['model']:<15} {comet['tokens']:>6} {comet['ep']}x{comet['tp']} {comet['link']:<9}"
          f" compute {comet['t_compute_us'] / 1000:6.2f} link {number(ratio, '5.2f')} of it"
          f" | ms: sequential {sequential['t_layer_us'] / 1000:6.2f}"
          f" pipelined {pipelined['t_layer_us'] / 1000:6.2f} comet {comet['t_layer_us'] / 1000:6.2f}"
          f" ({others})"
          f" | x{comet['speedup_vs_sequential']:.2f} x{1 / over:.2f}"
          f" hidden {number(comet['hidden_share'], '.2f')} efficiency {number(comet['efficiency'], '.2f')}"
          f" | G {comet['groups']} panel {comet['panel']} {comet['communication']}"
          f" {comet['n_c_dispatch']}/{comet['n_c_combine']}", flush=True)
    broken = []
    if over > OVER_PIPELINED:
        broken.append(f"comet takes {over:.3f} of pipelined's time, allowed {OVER_PIPELINED}")
    allowed = max(PLAN_US, PLAN_SHARE * sequential["t_layer_us"])
    if not sequential["t_plan_us"] <= allowed:
        broken.append(f"plan {sequential['t_plan_us']:.1f} us, allowed {allowed:.1f}")
    for sentence in broken:
        print(f"  BROKEN: {sentence}", flush=True)
    is_judged = ratio is not None and JUDGED[0] <= ratio <= JUDGED[1]
    return broken, comet["hidden_share"] if is_judged else None


def print_summary(rows, shares):
    """Over all cases: what the tables of docs/benchmarks.md say."""
    comets = [row for row in rows if row["schedule"] == "comet" and row["kind"] == "best"]
    efficiencies = [row["efficiency"] for row in comets if row["efficiency"] is not None]
    speedups = [row["speedup_vs_sequential"] for row in comets]
    print(f"{len(comets)} cases: over sequential x{statistics.geometric_mean(speedups):.3f} "
          f"(least x{min(speedups):.2f})")
    if efficiencies:
        print(f"  efficiency: median {statistics.median(efficiencies):.3f}, least {min(efficiencies):.3f}")
    if shares:
        print(f"  hidden share of {len(shares)} cases with communication {JUDGED[0]} to {JUDGED[1]} of "
              f"computation: median {statistics.median(shares):.3f}, least {min(shares):.3f}")


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", type=Path, required=True, help="the command, built with CUDA")
    parser.add_argument("--check", action="store_true", help=f"exit {CLAIMS_BROKEN} if a claim does not hold")
    parser.add_argument("--with-blocks", action="store_true",
                        help="also comet with communication on blocks of its own, not only on warps")
    for flag, default in (("models", MODELS), ("tokens", TOKENS), ("splits", SPLITS), ("links", LINKS)):
        parser.add_argument(f"--{flag}", type=words, default=default,
                            help=f"with commas between; default {','.join(default)}")
    arguments = parser.parse_args()
    comet = arguments.comet.resolve()
    all_rows, shares, all_hold = [], [], True
    path = os.environ.get("COMET_ROWS")
    cases = [(model, tokens, split, link) for link in arguments.links for model in arguments.models
             for tokens in arguments.tokens for split in arguments.splits]
    for case in cases:
        runs = run_case(comet, *case, arguments.with_blocks)
        broken, share = judge(runs)
        all_hold &= not broken
        shares += [] if share is None else [share]
        rows = [add_origin(row, not broken or not arguments.check)
                for kind in runs for row in runs[kind]]
        all_rows += rows
        if path:
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    print_summary(all_rows, shares)
    return CLAIMS_BROKEN if arguments.check and not all_hold else 0


if __name__ == "__main__":
    sys.exit(main())
