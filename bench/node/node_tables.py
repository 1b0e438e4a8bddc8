#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints, as Markdown, what bench/node.sh measured, from its rows: tests, ranks as processes, links, the grid
and few tokens beside the NCCL baseline, the scale model beside the real ranks, the sweeps; and says which claims hold (--check: exits 1 if one does
not).

Claims: efficiency at least 0.85 in every case of the paper's models; at least 1.6 (geometric mean) over NCCL all-to-all with
torch._grouped_mm where that waits for communication for 40 % of its time or more (the paper has 1.96 per layer
over its baselines); hidden share of at least 0.865, the paper's, in the median of cases whose communication
takes a quarter to all of the time of computation; the scale model's ratios within 15 % of the real ones.

Communication alone takes a rank's share of all bytes at the measured rate of a link while all GPUs are at
work; routing is uniform, so no rank has notably more. Efficiency is the larger of communication and computation
over the layer's time.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

LEAST_EFFICIENCY = 0.85
OVER_NCCL, NCCL_SHARE = 1.6, 0.40
LEAST_HIDDEN, JUDGED = 0.865, (0.25, 1.0)
SCALE_ERROR = 0.15
SUITES = ("node", "processes")
# Experts a token of the paper's models; cases with fewer are there for their communication.
TOPK = {"mixtral-8x7b": 2, "qwen2-moe-2.7b": 4, "phi-3.5-moe": 2}


def read_rows(path, run):
    """Rows of suite "node" of a run, by default the newest."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            sys.exit(f"node_tables: {path}:{number}: the line is no JSON: {error}")
        if row.get("suite") in SUITES:
            rows.append(row)
    if not rows:
        sys.exit(f"node_tables: {path} has no rows of suite node")
    run = run or max(rows, key=lambda row: row["date"])["run"]
    return [row for row in rows if row["run"] == run], run


def print_table(titles, lines):
    for line in [titles, ["---"] * len(titles), *lines]:
        print(f"| {' | '.join(line)} |")
    print()


def number(value, form):
    return "-" if value is None else format(value, form)


def key_of(row):
    return row["model"], row["topk"], row["tokens"], row["ep"], row["tp"]


def model_of(row):
    """Its name, and the experts a token where these are not the paper's."""
    return row["model"] if row["topk"] == TOPK.get(row["model"]) else f"{row['model']} top-{row['topk']}"


def link_rates(rows):
    """GB/s of the best division of work, by direction, all GPUs at work."""
    best = {}
    for row in rows:
        if row["kind"] == "link" and row["ring"]:
            best[row["direction"]] = max(best.get(row["direction"], 0), row["gbs"])
    return best


def print_links(rows):
    links = [row for row in rows if row["kind"] == "link"]
    warps = sorted({row["warps"] for row in links})
    for direction in ("pull", "push"):
        for ring in (True, False):
            found = {(row["blocks"], row["warps"]): row["gbs"] for row in links
                     if row["direction"] == direction and row["ring"] == ring}
            if not found:
                continue
            who = "all GPUs at once" if ring else "one GPU alone"
            print(f"{direction}, {who}: GB/s by blocks and warps of a block ({links[0]['peer']})\n")
            print_table(["blocks", *[f"{n} warps" for n in warps]],
                        [[str(blocks), *[number(found.get((blocks, n)), ".0f") for n in warps]]
                         for blocks in sorted({blocks for blocks, _ in found})])
    for row in rows:
        if row["kind"] == "signal":
            print(f"signal latency: {row['latency_ns']:.0f} ns ({row['peer']})\n")
        elif row["kind"] == "timer":
            print(f"timer of GPU {row['gpu_index']}: {row['ahead_ns'] / 1000:.1f} us ahead of GPU 0's, and "
                  f"{row['drift_ns_per_s'] / 1000:.3f} us more each second\n")


class Case:
    """The grid's rows of one case, the baseline's, and what follows from them."""

    def __init__(self, rows, nccl, rates):
        self.rows = {row["schedule"]: row for row in rows}
        self.comet = self.rows["comet"]
        self.nccl = nccl
        self.compute = self.comet["t_compute_us"]
        self.layer = self.comet["t_layer_us"]
        self.link = None
        if rates and self.comet["bytes_link"] > 0:
            bytes_of_rank = self.comet["bytes_link"] / self.comet["ranks"]
            self.link = bytes_of_rank * sum(1 / rate for rate in rates.values()) / len(rates) / 1000

    def over(self, schedule):
        row = self.nccl if schedule == "nccl" else self.rows[schedule]
        return None if row is None else row["t_layer_us"] / self.layer

    def efficiency(self):
        return max(self.compute, self.link or 0) / self.layer

    def hidden(self):
        return None if not self.link else 1 - (self.layer - self.compute) / self.link

    def is_of_paper(self):
        return self.comet["topk"] == TOPK.get(self.comet["model"])

    def is_judged(self):
        return self.link is not None and JUDGED[0] <= self.link / self.compute <= JUDGED[1]

    def cells(self):
        def ms(value):
            return number(None if value is None else value / 1000, ".3f")
        comet = self.comet
        return [model_of(comet), str(comet["tokens"]), f"EP{comet['ep']} x TP{comet['tp']}", ms(self.compute),
                ms(self.link), ms(self.nccl and self.nccl["t_layer_us"]),
                number(self.nccl and self.nccl["communication_share"], ".2f"),
                ms(self.rows["sequential"]["t_layer_us"]), ms(self.rows["pipelined"]["t_layer_us"]),
                f"{ms(self.layer)} (G = {comet['groups']})",
                *[number(self.over(name), ".2f") for name in ("nccl", "sequential", "pipelined")],
                number(self.hidden(), ".2f"), f"{self.efficiency():.2f}"]


def cases_of(rows, kind):
    rates = link_rates(rows)
    nccl = {key_of(row): row for row in rows if row["kind"] == "nccl"}
    groups = {}
    for row in rows:
        if row["kind"] == kind:
            groups.setdefault(key_of(row), []).append(row)
    return [Case(group, nccl.get(key), rates) for key, group in groups.items()
            if {row["schedule"] for row in group} >= {"sequential", "pipelined", "comet"}]


def means_of(cases):
    """Geometric means of the speedups, as text, by baseline."""
    means = []
    for name in ("nccl", "sequential", "pipelined"):
        values = [case.over(name) for case in cases if case.over(name) is not None]
        means.append(f"{statistics.geometric_mean(values):.2f}" if values else "-")
    return means


def print_grid(cases):
    lines = [case.cells() for case in cases]
    lines.append(["geometric mean", *[""] * 9, *means_of(cases), "", ""])
    print_table(["model", "tokens", "split", "computation", "communication", "NCCL", "of it communication",
                 "`sequential`", "`pipelined`", "`comet`", "over NCCL", "over `sequential`",
                 "over `pipelined`", "hidden", "efficiency"], lines)


def print_few(cases):
    """Of few tokens communication is short and claims are none: times of the schedules, and of the fastest over NCCL."""
    lines = []
    gains = []
    for case in cases:
        fastest = min(case.rows.values(), key=lambda row: row["t_layer_us"])
        over = case.nccl and case.nccl["t_layer_us"] / fastest["t_layer_us"]
        gains += [over] if over else []
        lines.append([*case.cells()[:3], f"{case.compute:.0f}", number(case.nccl and case.nccl["t_layer_us"], ".0f"),
                      *[f"{case.rows[name]['t_layer_us']:.0f}" for name in ("sequential", "pipelined", "comet")],
                      f"`{fastest['schedule']}`", number(over, ".2f")])
    if gains:
        lines.append(["geometric mean", *[""] * 8, f"{statistics.geometric_mean(gains):.2f}"])
    if lines:
        print("few tokens: us\n")
        print_table(["model", "tokens", "split", "computation", "NCCL", "`sequential`", "`pipelined`", "`comet`", "fastest",
                     "over NCCL"], lines)


def scale_errors(rows, cases):
    """(name, the scale model's speedup over sequential, the real one) of cases that have both."""
    real = {key_of(case.comet): case.over("sequential") for case in cases}
    model = [row for row in rows if row["kind"] == "scale" and row["schedule"] == "comet"]
    return [(f"{model_of(row)} {row['tokens']} EP{row['ep']} x TP{row['tp']}", row["speedup_vs_sequential"],
             real[key_of(row)]) for row in model if key_of(row) in real]


def print_scale(errors):
    if errors:
        print("`comet` over `sequential` with all ranks on one GPU, link EMULATED at the measured rate\n")
        print_table(["case", "scale model", "a GPU each", "ratio"],
                    [[name, f"{model:.2f}", f"{real:.2f}", f"{model / real:.2f}"]
                     for name, model, real in errors])


def print_sweeps(rows):
    groups = {}
    for row in rows:
        if row["kind"] != "sweep":
            continue
        if row["schedule"] == "pipelined":
            what, value = "`pipelined`, reserved", row["n_c_dispatch"]
        elif row["communication"] == "blocks":
            what, value = "`comet`, blocks, n_c", row["n_c_dispatch"]
        else:
            waves = f", {row['waves']} waves" if row.get("waves") else ""
            what, value = f"`comet`, warps{waves}, G", row["groups"]
        groups.setdefault((*key_of(row), what), []).append(f"{value}: {row['t_layer_us'] / 1000:.3f}")
    if groups:
        print_table(["model", "tokens", "split", "what", "ms"],
                    [[model, str(tokens), f"EP{ep} x TP{tp}", what, ", ".join(times)]
                     for (model, _, tokens, ep, tp, what), times in groups.items()])


def print_changes(cases, before):
    """Beside an older run, by what its own machine makes of `sequential`: how many times as much `comet` gains over it."""
    old = {key_of(case.comet): case.over("sequential") for case in before}
    groups = {}
    for case in cases:
        if key_of(case.comet) in old:
            split = "EP" if case.comet["tp"] == 1 else "TP"
            models = "the paper's models" if case.is_of_paper() else "other experts a token"
            change = case.over("sequential") / old[key_of(case.comet)]
            for of in (split, f"{split}, {models}"):
                groups.setdefault(of, []).append(change)
    print_table(["`comet` over `sequential`, over the same before", "cases", "geometric mean", "least", "most"],
                [[of, str(len(changes)), f"{statistics.geometric_mean(changes):.3f}", f"{min(changes):.3f}",
                  f"{max(changes):.3f}"] for of, changes in sorted(groups.items())])


def print_tests(rows):
    for row in rows:
        if row["kind"] in ("gtest", "check"):
            note = f" ({row['note']})" if row.get("note") else ""
            print(f"- {row['program']}: {row['result']}{note}, {row['count']}")
    print()


def print_processes(rows):
    """Times of ranks as processes over those of threads, and what else was claimed of them."""
    rows = [row for row in rows if row["suite"] == "processes"]
    if not rows:
        return
    for row in rows:
        if row["kind"] != "times":
            what = f"{row['ranks']} ranks, " if "ranks" in row else f"{row['count']} ranks, "
            faults = f": {'; '.join(row['faults'])}" if row["faults"] else ""
            print(f"- processes, {row['kind']}, {what}{'puts forced, ' if row.get('puts_forced') else ''}"
                  f"{row['result']}{faults}")
    print()
    timed = [row for row in rows if row["kind"] == "times" and "over_local" in row]
    if timed:
        print("ranks as processes: ms, and how many times as long as ranks that are threads\n")
        names = list(timed[0]["over_local"])
        print_table(["model", "tokens", "split", "link", *[f"`{name}`" for name in names]],
                    [[row["model"], str(row["tokens"]), row["split"], row["link"],
                      *[f"{row['t_layer_us'][name] / 1000:.3f} x{row['over_local'][name]:.2f}"
                        for name in names]] for row in timed])


def judge(cases, errors):
    """Prints a line per claim; whether all hold that could be judged."""
    of_paper = [case for case in cases if case.is_of_paper()] or cases
    worst = min(of_paper, key=Case.efficiency)
    verdicts = [(worst.efficiency() >= LEAST_EFFICIENCY,
                 f"efficiency: least {worst.efficiency():.2f} ({' '.join(worst.cells()[:3])}), at least "
                 f"{LEAST_EFFICIENCY} in {sum(case.efficiency() >= LEAST_EFFICIENCY for case in of_paper)} of "
                 f"{len(of_paper)} cases, asked all")]
    waiting = [case.over("nccl") for case in cases
               if case.nccl and case.nccl["communication_share"] >= NCCL_SHARE]
    if waiting:
        mean = statistics.geometric_mean(waiting)
        verdicts.append((mean >= OVER_NCCL, f"over NCCL where it communicates for {NCCL_SHARE:.0%} or more: "
                         f"{mean:.2f} in {len(waiting)} cases, asked {OVER_NCCL}, the paper has 1.96"))
    hidden = [case.hidden() for case in cases if case.is_judged()]
    if hidden:
        verdicts.append((statistics.median(hidden) >= LEAST_HIDDEN,
                         f"hidden share: median {statistics.median(hidden):.2f} of {len(hidden)} cases, "
                         f"asked {LEAST_HIDDEN}"))
    if errors:
        off = max(abs(model / real - 1) for _, model, real in errors)
        verdicts.append((off <= SCALE_ERROR, f"scale model: off by {off:.0%} at most, allowed {SCALE_ERROR:.0%}"))
    for holds, sentence in verdicts:
        print(f"- {'holds' if holds else 'BROKEN'}: {sentence}")
    for name, has in (("NCCL", waiting), ("hidden share", hidden), ("scale model", errors)):
        if not has:
            print(f"- not judged: {name}, no case for it")
    return all(holds for holds, _ in verdicts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, help="file with the rows of suite node")
    parser.add_argument("--run", help="name of the run; default: the newest")
    parser.add_argument("--before", type=Path, metavar="ROWS",
                        help="also how much less or more comet gains than by the newest run of these rows")
    parser.add_argument("--check", action="store_true", help="exit 1 if a claim does not hold")
    arguments = parser.parse_args()
    try:
        rows, run = read_rows(arguments.rows, arguments.run)
        before = read_rows(arguments.before, None)[0] if arguments.before else []
    except OSError as error:
        sys.exit(f"node_tables: {error}")
    gpus = next((row["gpus"] for row in rows if "gpus" in row), "?")
    device = next((row["device"] for row in rows if "device" in row), "?")
    print(f"run {run}, {gpus} x {device}, commit {rows[0]['commit']}\n")
    print_tests(rows)
    print_processes(rows)
    print_links(rows)
    print_few(cases_of(rows, "few"))
    cases = cases_of(rows, "layer")
    if not cases:
        return 0
    print_grid(cases)
    if before:
        print_changes(cases, cases_of(before, "layer"))
    errors = scale_errors(rows, cases)
    print_scale(errors)
    print_sweeps(rows)
    holds = judge(cases, errors)
    return 1 if arguments.check and not holds else 0


if __name__ == "__main__":
    sys.exit(main())
