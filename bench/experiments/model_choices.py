#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How good the model's own choices are in cases that were swept before; nothing is measured.

    model_choices.py out/tuner.jsonl --profile out/tuner_profile.json    the constants that were calibrated
    model_choices.py out/tuner.jsonl --machine h200                      those of a known machine

`comet plan --predict` says what the model prefers in each case of tuner_grid.py's rows, and the sweep says how long that
took. So a change of the model or of its constants is judged on any machine. A choice that the sweep has not timed is
counted and judged no further.
"""

import argparse
import statistics
import sys
from pathlib import Path

import bench_cases
import tuner_grid
from bench_cases import Failure, say


def judge(row, choice, predicted_us):
    """The row with the loss of that choice, by the last rounds if they timed it, else by the sweep; None if neither did."""
    for times in (row.get("finals", {}), row["sweep"]):
        if choice in times:
            best = min(times, key=times.get)
            return {**row, "by_model": choice, "best": best, "model_loss": times[choice] / times[best] - 1,
                    "error": abs(predicted_us / times[choice] - 1)}
    return None


def summary(judged, num_untimed):
    """What was found, a sentence each."""
    sentences = []
    if judged:
        losses = [row["model_loss"] for row in judged]
        worst = max(judged, key=lambda row: row["model_loss"])
        near = sum(loss <= tuner_grid.MODEL_WITHIN for loss in losses) / len(losses)
        sentences = [f"{len(judged)} cases: the model's choice is within {tuner_grid.MODEL_WITHIN:.0%} of the best in {near:.0%}, "
                     f"{statistics.mean(losses):.1%} slower on average and {worst['model_loss']:.1%} at worst "
                     f"({', '.join(tuner_grid.key_of(worst))}).",
                     f"Its time is predicted {statistics.median(row['error'] for row in judged):.1%} off in the median."]
    if num_untimed:
        sentences.append(f"{num_untimed} cases: the model's choice was not timed.")
    return sentences


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, metavar="ROWS", help="a tuner.jsonl of tuner_grid.py")
    parser.add_argument("--comet", type=Path, default=Path("build/cpu/comet"), help="the command; default build/cpu/comet")
    constants = parser.add_mutually_exclusive_group(required=True)
    constants.add_argument("--profile", help="a profile with calibrated constants")
    constants.add_argument("--machine", help="a machine that comet plan knows")
    parser.add_argument("--ranks-per-device", type=int, choices=range(1, 1025), metavar="N",
                        help="ranks that shared a GPU, 1 to 1024; default all")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    swept = [row for row in bench_cases.rows_of(arguments.rows) if row.get("kind") == "case" and "sweep" in row]
    if not swept:
        raise Failure(f"{arguments.rows}: no case that tuner_grid.py has swept")
    machine = ["--profile", arguments.profile] if arguments.profile else ["--machine", arguments.machine]
    judged, num_untimed = [], 0
    for row in swept:
        choice, predicted_us = tuner_grid.preferred(arguments.comet, machine, row, arguments.ranks_per_device)
        found = judge(row, choice, predicted_us)
        if found is None:
            num_untimed += 1
            say(f"{', '.join(tuner_grid.key_of(row))}: {choice}, which was not timed")
            continue
        judged.append(found)
        say(f"{', '.join(tuner_grid.key_of(row))}: {choice}, {found['model_loss']:.1%} slower than {found['best']}")
    for sentence in summary(judged, num_untimed):
        say(sentence)
    return 0


if __name__ == "__main__":
    sys.exit(bench_cases.main_of(main))
