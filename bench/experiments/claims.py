#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says of each claim about speed whether rows bear it out: what is claimed, what was measured, holds or not.

    claims.py bench/results/*.jsonl           a line for each claim and device
    claims.py --check out/*.jsonl             exits 1 if a claim does not hold or has no rows

Rows of tuner_grid.py (tuner.jsonl) say how good the tuner's choices and the predictions are, and what a fixed number
of communication multiprocessors would lose; rows of the experiment efficiency, and of suite overlap, how much is gained
where communication alone takes 40 to 55 % of sequential's time: by calls that are replayed from CUDA graphs and, where
rows have them, by calls that are launched anew, each judged by themselves. Of several rows for a case the newest count.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import bench_cases
import traced_calls
import tuner_grid
from bench_cases import Failure, say

TUNED_SHARE, MODEL_SHARE, MODEL_WORST = 0.95, 0.90, 0.20
LEAST_CASES = 60
PREDICTION = 0.10
SHARE_OF_SEQUENTIAL = (0.40, 0.55)
EFFICIENCY, OVER_SEQUENTIAL, OVER_PIPELINED, LEAST_OVER_PIPELINED = 0.85, 1.55, 1.10, 0.97
# Of a rank's link: above it the memory that ranks share sets the time.
FAST_ABOVE_GBS = json.loads(Path(__file__).with_name("efficiency.json").read_text(encoding="utf-8"))["traced"]["link_above_gbs"]
LINKS = ("paced:20", "paced:auto:0.7", "paced:auto:1")
# What `comet tune --calibrate` runs on GPUs, and predictions are thus no news for.
CALIBRATED = {"models": ("mixtral-8x7b", "qwen2-moe-2.7b"), "tokens": 8192, "splits": ((8, 1), (1, 8)),
              "links": ("native",)}


class Verdicts:
    """Prints a line for each claim, and counts what does not hold."""

    def __init__(self):
        self.num_broken = 0

    def say(self, claim, holds, found):
        """`holds` None: there are no rows."""
        word = {True: "holds", False: "DOES NOT HOLD", None: "NO ROWS"}[holds]
        self.num_broken += holds is not True
        say(f"{word:<14} {claim}: {found}")


def name_of(row):
    launched = "" if is_replayed(row) else ", no graphs"
    return f"{row['model']} {row['tokens']} EP{row['ep']} x TP{row['tp']} {row['link']}{launched}"


def worst_of(rows, key):
    row = max(rows, key=lambda row: row[key])
    return f"{row[key]:.1%} at worst ({name_of(row)})"


def is_news(row):
    """Whether calibration has not run the very case."""
    seen = CALIBRATED
    return not (row["model"] in seen["models"] and row["tokens"] == seen["tokens"]
                and (row["ep"], row["tp"]) in seen["splits"] and row["link"] in seen["links"])


def judge_choices(rows, verdicts):
    """The tuner's choices, the model's, and the model's predictions of its own."""
    verdicts.say(f"at least {LEAST_CASES} cases in the grid", len(rows) >= LEAST_CASES if rows else None,
                 f"{len(rows)}")
    if not rows:
        for claim in ("tuned choices", "the model's choices", "predictions"):
            verdicts.say(claim, None, "tuner_grid.py makes them")
        return
    for key, who, within, share, most in (
            ("tuned_loss", "tuned choices", tuner_grid.TUNED_WITHIN, TUNED_SHARE, None),
            ("model_loss", "the model's choices", tuner_grid.MODEL_WITHIN, MODEL_SHARE, MODEL_WORST)):
        near = sum(row[key] <= within for row in rows) / len(rows)
        claim = f"{who} are within {within:.0%} of the best in {share:.0%} of the cases"
        claim += f", never more than {most:.0%} slower" if most else ""
        holds = near >= share and (most is None or max(row[key] for row in rows) <= most)
        verdicts.say(claim, holds, f"in {near:.1%} of {len(rows)}, "
                     f"{statistics.mean(row[key] for row in rows):.1%} slower on average, {worst_of(rows, key)}")
    fresh = [row for row in rows if row.get("calibrated") and is_news(row)]
    for row in fresh:
        row["error"] = abs(row["predicted_us"] / row["model_us"] - 1)
    claim = f"predictions of cases that calibration has not run are off by at most {PREDICTION:.0%} in the median"
    if fresh:
        error = statistics.median(row["error"] for row in fresh)
        verdicts.say(claim, error <= PREDICTION, f"{error:.1%} of {len(fresh)}, {worst_of(fresh, 'error')}")
    else:
        verdicts.say(claim, None, "comet tune --calibrate before tuner_grid.py")


def judge_fixed(rows, verdicts):
    """Whether one division of work would do everywhere, and the table of what each loses."""
    losses = tuner_grid.fixed_losses(rows)
    claim = "the best n_c of blocks of their own varies over the grid"
    if not losses:
        verdicts.say(claim, None, "tuner_grid.py makes them")
        return
    wins = {pair: sum(loss == 0 for loss in values) for pair, values in losses.items()}
    pair = min(losses, key=lambda pair: statistics.mean(losses[pair]))
    verdicts.say(claim, sum(count > 0 for count in wins.values()) > 1,
                 f"{sum(count > 0 for count in wins.values())} of {len(wins)} pairs are the best of a case; the best "
                 f"fixed one, {pair}, loses {statistics.mean(losses[pair]):.1%} on average, {max(losses[pair]):.1%} at worst")
    say(f"{'':<14} n_c dispatch/combine   best in   loses on average   at worst")
    for pair in sorted(losses, key=lambda pair: statistics.mean(losses[pair])):
        say(f"{'':<14} {pair:<20} {wins[pair]:>9} {statistics.mean(losses[pair]):>18.1%} {max(losses[pair]):>10.1%}")


def tuned_cases(rows):
    """The finished cases of tuner_grid.py, the newest of each, with what its choices lose."""
    newest = {}
    for row in rows:
        if row.get("kind") == "case" and "finals" in row:
            key = tuner_grid.key_of(row)
            newest[key] = max(newest.get(key, row), row, key=lambda one: one["date"])
    return [tuner_grid.judge(dict(row)) for row in newest.values()]


def overlap_cases(rows):
    """{schedule: row} of each case that has all three, the newest of each."""
    runs = {}
    for row in rows:
        is_overlap = row.get("suite") == "overlap" and row.get("kind") == "best"
        if (is_overlap or row.get("experiment") == "efficiency") and row.get("link") in LINKS:
            run = (name_of(row), row.get("run", row.get("commit")))
            runs.setdefault(run, {})[row["schedule"]] = row
    newest = {}
    for (name, _), case in runs.items():
        if {"sequential", "pipelined", "comet"} <= set(case):
            if name not in newest or newest[name]["comet"]["date"] < case["comet"]["date"]:
                newest[name] = case
    return list(newest.values())


def with_gains(of_schedules):
    """Rows of comet with the share that communication has of sequential's time, and what is gained over others."""
    cases = []
    for case in of_schedules:
        sequential, pipelined, comet = (case[name] for name in ("sequential", "pipelined", "comet"))
        share = comet["t_link_us"] / sequential["t_layer_us"]
        cases.append({**comet, "share": share, "over_sequential": sequential["t_layer_us"] / comet["t_layer_us"],
                      "over_pipelined": pipelined["t_layer_us"] / comet["t_layer_us"]})
    return cases


def judge_overlap(of_schedules, verdicts):
    """What comet gains where there is something to hide, by replayed calls and by launched ones."""
    cases = with_gains(of_schedules)
    replayed = [case for case in cases if is_replayed(case)]
    launched = [case for case in cases if not is_replayed(case)]
    for case in judge_gains(replayed, "", verdicts):
        say(f"{'':<14} {short_case(case)}; {traced_calls.said_of(case)}")
    if launched:
        plans = {name_of(case): case["t_plan_us"] for case in replayed}
        for case in judge_gains(launched, ", calls launched anew", verdicts):
            plan = plans.get(name_of({**case, "graph": True}))
            say(f"{'':<14} {short_case(case)}; the plan takes {case['t_plan_us']:.0f} us"
                + (f", {plan:.0f} in replayed calls" if plan is not None else "")
                + (f"; {traced_calls.said_of(case)}" if traced_calls.is_traced(case) else ""))


def judge_gains(cases, how, verdicts):
    """Says a line for each claim; returns the cases to explain: of little efficiency, or over fast links."""
    low, high = SHARE_OF_SEQUENTIAL
    all_judged = [case for case in cases if low <= case["share"] <= high]
    on_slow_links = [case for case in all_judged if not has_fast_link(case)]
    where = f"where communication is {low:.0%} to {high:.0%} of sequential{how}"
    claims = ((f"efficiency over links of at most {FAST_ABOVE_GBS} GB/s a rank is at least {EFFICIENCY}", "efficiency",
               on_slow_links, min, EFFICIENCY),
              (f"geometric mean over sequential at least {OVER_SEQUENTIAL}", "over_sequential", all_judged,
               statistics.geometric_mean, OVER_SEQUENTIAL),
              (f"geometric mean over the best pipelined at least {OVER_PIPELINED:.2f}", "over_pipelined", all_judged,
               statistics.geometric_mean, OVER_PIPELINED),
              (f"no case over the best pipelined below {LEAST_OVER_PIPELINED}", "over_pipelined", all_judged, min,
               LEAST_OVER_PIPELINED))
    for claim, key, judged, combine, least in claims:
        if not judged:
            verdicts.say(f"{claim}, {where}", None, "run.py efficiency makes them")
            continue
        worst = min(judged, key=lambda case: case[key])
        value = combine([case[key] for case in judged])
        verdicts.say(f"{claim}, {where}", value >= least,
                     f"{value:.3f} of {len(judged)} cases on {', '.join(sorted({case['link'] for case in judged}))}, "
                     f"links EMULATED; least {worst[key]:.3f} ({name_of(worst)})")
    return [case for case in all_judged if has_fast_link(case) or case["efficiency"] < EFFICIENCY]


def is_replayed(row):
    """Whether its calls were replayed from CUDA graphs."""
    return row.get("graph", True)


def has_fast_link(case):
    """Whether its link may load the memory that ranks share so much that this, and not comet, sets the time."""
    return (case.get("link_gbs") or 0) > FAST_ABOVE_GBS


def short_case(case):
    rate = f", {case['link_gbs']:.1f} GB/s" if case.get("link_gbs") else ""
    return f"{name_of(case)}{rate}: efficiency {case['efficiency']:.3f}"


def short_commit(commit):
    """Of whole hashes, which some rows have, what the others have."""
    name, mark, changed = commit.partition("-")
    return name[:12] + mark + changed


def device_of(row):
    return row.get("device") or row.get("gpu")


def judged_devices(rows):
    """GPUs that have rows of any of the claims."""
    ours = [row for row in rows if row.get("experiment") in ("efficiency", tuner_grid.NAME)
            or (row.get("suite") == "overlap" and row.get("kind") == "best")]
    return sorted({device_of(row) for row in ours if device_of(row)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", type=Path, metavar="ROWS", help="files of rows, JSON Lines")
    parser.add_argument("--check", action="store_true", help="exit 1 if a claim does not hold or has no rows")
    arguments = parser.parse_args()
    rows = []
    for path in arguments.rows:
        rows += bench_cases.rows_of(path)
    devices, verdicts = judged_devices(rows), Verdicts()
    if not devices:
        raise Failure("no rows of tuner_grid.py, of the experiment efficiency or of suite overlap")
    for device in devices:
        own = [row for row in rows if device_of(row) == device]
        tuned, overlap = tuned_cases(own), overlap_cases(own)
        commits = {short_commit(row["commit"]) for row in [*tuned, *(case["comet"] for case in overlap)]}
        say(f"{device}, commits {', '.join(sorted(commits))}")
        judge_choices(tuned, verdicts)
        judge_fixed(tuned, verdicts)
        judge_overlap(overlap, verdicts)
    return 1 if arguments.check and verdicts.num_broken else 0


if __name__ == "__main__":
    sys.exit(bench_cases.main_of(main))
