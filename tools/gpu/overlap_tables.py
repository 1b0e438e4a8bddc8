#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints, as Markdown, the tables of docs/benchmarks.md about the fused schedule on a GPU.

From the rows of suite "overlap" in bench/results, of the newest run or of those named: each case over an EMULATED link of 20 GB/s;
speedups over all links, beside the paper's; and communication on blocks of its own against extra warps.
"""

import argparse
import statistics
import sys
from pathlib import Path

import check_evidence

NAMES = {"mixtral-8x7b": "Mixtral", "qwen2-moe-2.7b": "Qwen2", "phi-3.5-moe": "Phi-3.5"}
MAIN_LINK = "paced:20"
# (model, total tokens, TP): times of a layer in ms of Megatron-LM with CUTLASS, which does not overlap, of
# Tutel, and of COMET on 8 H800s, where the paper has the case: figure 9 less attention, per layer.
PAPER = {
    ("Mixtral", 8192, 8): (2.72, 2.60, 1.03), ("Mixtral", 32768, 1): (5.48, 5.36, 4.09),
    ("Mixtral", 32768, 2): (6.70, 5.31, 4.50), ("Qwen2", 8192, 8): (3.50, 2.65, 1.11),
    ("Qwen2", 32768, 1): (2.77, 3.55, 1.18), ("Qwen2", 32768, 2): (2.88, 3.24, 1.38),
    ("Phi-3.5", 8192, 8): (2.85, 2.43, 1.03), ("Phi-3.5", 32768, 1): (4.36, 4.13, 2.20),
    ("Phi-3.5", 32768, 2): (5.08, 3.91, 3.10),
}


class Case:
    """The rows of one model, number of tokens, split and link."""

    def __init__(self, rows):
        self.rows = {(row["kind"], row["schedule"]): row for row in rows}
        row = rows[0]
        self.name, self.tokens = NAMES.get(row["model"], row["model"]), row["tokens"]
        self.ep, self.tp, self.link = row["ep"], row["tp"], row["link"]
        self.comet = self.rows["best", "comet"]

    def time(self, kind, schedule):
        """Milliseconds a call."""
        return self.rows[kind, schedule]["t_layer_us"] / 1000

    def over(self, schedule):
        return self.time("best", schedule) / self.time("best", "comet")

    def blocks(self):
        """Time on blocks over time on extra warps, each relative to sequential of its own run."""
        own = self.time("blocks", "comet") / self.time("blocks", "sequential")
        return own * self.over("sequential")


def read_cases(root, runs):
    """The cases of runs, by default of the newest, and their names."""
    rows = [row for row in check_evidence.read_rows(root) if row["suite"] == "overlap"]
    if not rows:
        sys.exit("overlap_tables: no row of suite overlap in bench/results")
    runs = runs or [max(rows, key=lambda row: row["date"])["run"]]
    groups = {}
    for row in rows:
        if row["run"] in runs and row["kind"] in ("best", "g1", "blocks"):
            key = (row["model"], row["tokens"], row["tp"], row["link"])
            groups.setdefault(key, []).append(row)
    if not groups:
        sys.exit(f"overlap_tables: no case of {', '.join(runs)}")
    return [Case(group) for group in groups.values()], runs


def print_table(titles, lines):
    for line in [titles, ["---"] * len(titles), *lines]:
        print(f"| {' | '.join(line)} |")
    print()


def split_cells(case):
    return [case.name, str(case.tokens), f"EP{case.ep} x TP{case.tp}"]


def print_main(cases):
    lines = []
    for case in cases:
        comet = case.comet
        lines.append(split_cells(case) + [
            f"{comet['t_compute_us'] / 1000:.2f}", f"{comet['t_link_us'] / 1000:.2f}",
            f"{case.time('best', 'sequential'):.2f}", f"{case.time('best', 'pipelined'):.2f}",
            f"{case.time('g1', 'comet'):.2f}", f"{case.time('best', 'comet'):.2f} (G = {comet['groups']})",
            f"{case.over('sequential'):.2f}x", f"{case.over('pipelined'):.2f}x",
            f"{comet['hidden_share']:.2f}", f"{comet['efficiency']:.2f}"])
    print_table(["model", "tokens", "split", "computation", "communication", "`sequential`", "`pipelined`",
                 "`comet`, G = 1", "`comet`", "over `sequential`", "over `pipelined`", "hidden",
                 "efficiency"], lines)


def geometric_mean(values):
    return f"{statistics.geometric_mean(values):.2f}x"


def paper_cell(case):
    times = PAPER.get((case.name, case.tokens, case.tp))
    return f"{times[0] / times[2]:.2f}x / {times[1] / times[2]:.2f}x" if times else "-"


def print_by_link(cases, cell, mean, more=()):
    """A line per model, tokens and split, a column per link, and the geometric mean of each column.

    `more` has further columns: title and cell.
    """
    links = list(dict.fromkeys(case.link for case in cases))
    by_key = {(case.name, case.tokens, case.tp, case.link): case for case in cases}
    lines = []
    for case in [case for case in cases if case.link == links[0]]:
        row = [by_key.get((case.name, case.tokens, case.tp, link)) for link in links]
        lines.append(split_cells(case) + ["-" if each is None else cell(each) for each in row]
                     + [more_cell(case) for _, more_cell in more])
    means = [mean([case for case in cases if case.link == link]) for link in links]
    lines.append(["geometric mean", "", "", *means] + [""] * len(more))
    print_table(["model", "tokens", "split", *[f"`{link}`" for link in links],
                 *[title for title, _ in more]], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--run", action="append",
                        help="name of a run, repeatable if no two have a link in common; default: the newest")
    arguments = parser.parse_args()
    try:
        cases, runs = read_cases(arguments.root.resolve(), arguments.run)
    except (check_evidence.DamagedLine, OSError) as error:
        sys.exit(f"overlap_tables: {error}")
    print(f"{', '.join(runs)}; links named paced are EMULATED\n")
    print_main([case for case in cases if case.link == MAIN_LINK])
    print("over sequential / over the best pipelined; the paper's over Megatron-LM / over Tutel\n")
    print_by_link(cases,
                  lambda case: f"{case.over('sequential'):.2f}x / {case.over('pipelined'):.2f}x",
                  lambda column: " / ".join(geometric_mean([case.over(schedule) for case in column])
                                            for schedule in ("sequential", "pipelined")),
                  [("paper", paper_cell)])
    with_blocks = [case for case in cases if ("blocks", "comet") in case.rows]
    if with_blocks:
        print("time with communication on blocks of its own over time on extra warps\n")
        print_by_link(with_blocks, lambda case: f"{case.blocks():.2f}x",
                      lambda column: geometric_mean([case.blocks() for case in column]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
