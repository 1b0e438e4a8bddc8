#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs experiments that stand beside the figures of the COMET paper.

Each is a JSON file of this folder: which cases `comet bench` is to run, what is drawn against what, and
what the paper has. Rows (suite "adaptive") go to OUT/rows.jsonl as soon as their case is done, pictures to
OUT/<experiment>.png and .svg; `comet report OUT/rows.jsonl` makes one page of them. Ranks share one device, and
links named paced are EMULATED. A case that fails is named and left out, and makes the exit code 1.
"""

import argparse
import itertools
import json
import math
import re
import sys
import time
from pathlib import Path

import bench_cases
import charts
import traced_calls
from bench_cases import Deadline, Failure, say

FOLDER = Path(__file__).resolve().parent
NO_GRAPHS = "--no-graphs"
DEMO_TOKENS_DIVISOR = 64  # as few as a CPU multiplies in a moment
COLUMNS = [
    {"key": "model", "title": "model"}, {"key": "experts", "title": "E"}, {"key": "topk", "title": "top-k"},
    {"key": "tokens", "title": "tokens"}, {"key": "ep", "title": "EP"}, {"key": "tp", "title": "TP"},
    {"key": "link", "title": "link"}, {"key": "routing", "title": "routing"},
    {"key": "graph", "title": "graphs"}, {"key": "schedule", "title": "schedule"},
    {"key": "groups", "title": "G"}, {"key": "chunks", "title": "chunks"},
    {"key": "panel", "title": "panel"}, {"key": "n_c_dispatch", "title": "n_c, dispatch"},
    {"key": "n_c_combine", "title": "n_c, combine"}, {"key": "communication", "title": "on"},
    {"key": "t_layer_ms", "title": "ms", "digits": 3},
    {"key": "speedup_vs_sequential", "title": "over sequential", "digits": 2},
    {"key": "paper_over_sequential", "title": "the paper's", "digits": 2},
    {"key": "speedup_vs_pipelined", "title": "over pipelined", "digits": 2},
    {"key": "paper_over_pipelined", "title": "the paper's", "digits": 2},
    {"key": "hidden_share", "title": "hidden", "digits": 2},
    {"key": "paper_hidden", "title": "the paper's", "digits": 3},
    {"key": "efficiency", "title": "efficiency", "digits": 2},
    {"key": "products_slowed", "title": "products over alone", "digits": 2},
    {"key": "before_products_us", "title": "before products, us", "digits": 0},
    {"key": "between_products_us", "title": "between", "digits": 0},
    {"key": "after_products_us", "title": "after", "digits": 0},
]


def names():
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_experiment(name):
    path = FOLDER / f"{name}.json"
    if not path.exists():
        raise Failure(f"no experiment '{name}': one of {', '.join(names())}, or all")
    return json.loads(path.read_text(encoding="utf-8"))


def n_c_choices(values, other, groups, panels=(0,), placement="blocks"):
    """Choices for --choices: n_c of each stage swept while the other stage has `other`."""
    pairs = [(value, other) for value in values]
    pairs += [(other, value) for value in values if value != other]
    return [f"{count}:{panel}:{dispatch}/{combine}:{placement}"
            for count, panel, (dispatch, combine) in itertools.product(groups, panels, pairs)]


def in_small(line):
    """A line with fewer tokens; all else is scaled by the command."""
    return re.sub(r"--tokens (\d+)", lambda match:
                  f"--tokens {max(64, int(match[1]) // DEMO_TOKENS_DIVISOR)}", line)


def on_cpu(line):
    """A line without what only GPUs have, which the command refuses for CPUs: launched calls, placements, waves."""
    return " ".join(re.sub(rf"{NO_GRAPHS}|--(?:placement|waves) \S+|:(?:warps|blocks)\b(?::\d+)?", "", line).split())


def lines_of(experiment, scale, launches=False, backend="cuda"):
    """A line of flags for each case: every combination of what varies, the first list outermost.

    With `launches` each once more whose calls are launched anew, beside its own, with which it shares weights.
    """
    fixed = [experiment.get("flags", "")]
    if "n_c_sweep" in experiment:
        fixed.append("--choices " + ",".join(n_c_choices(**experiment["n_c_sweep"])))
    lines = [" ".join(part for part in (*point, *fixed) if part)
             for point in itertools.product(*experiment["vary"])]
    if launches and not any(NO_GRAPHS in line for line in lines):
        lines = [each for line in lines for each in (line, f"{line} {NO_GRAPHS}")]
    if backend == "cpu":
        lines = map(on_cpu, lines)
    if scale != "none":
        lines = map(in_small, lines)
    return list(dict.fromkeys(lines))


def world_flags(arguments):
    """Of comet bench and comet trace alike."""
    flags = ["--world", "local:8", "--backend", arguments.backend]
    if arguments.backend == "cuda":
        flags += ["--dtype", "bf16"]
    if arguments.scale != "none":
        flags += ["--scale", arguments.scale]
    return flags


def add_ratios(experiment, rows):
    """What is computed from the rows of one case, and the paper's figures for it."""
    pipelined = next((row["t_layer_us"] for row in rows if row["schedule"] == "pipelined"), None)
    for row in rows:
        row["t_layer_ms"] = row["t_layer_us"] / 1000
        row["t_compute_ms"] = row["t_compute_us"] / 1000
        row["computing_ms"] = min(row["t_compute_ms"], row["t_layer_ms"])
        row["exposed_ms"] = row["t_layer_ms"] - row["computing_ms"]
        if row["sms"]:
            for stage in ("dispatch", "combine"):
                row[f"n_c_{stage}_share"] = row[f"n_c_{stage}"] / row["sms"]
        if row["routing"].startswith("std:"):
            row["imbalance"] = float(row["routing"][len("std:"):])
        if pipelined and row["schedule"] == "comet":
            row["speedup_vs_pipelined"] = pipelined / row["t_layer_us"]
        for entry in experiment.get("paper", []):
            if charts.matches(row, entry["where"]):
                row.update(entry["has"])


def header(name, experiment):
    """What readers of the rows need to know about an experiment."""
    row = {"suite": bench_cases.SUITE, "kind": "experiment", "experiment": name,
           "columns": experiment.get("columns", COLUMNS)}
    row.update({key: experiment[key] for key in ("title", "figure", "about", "said") if key in experiment})
    return row


def info_rows(experiment, arguments):
    """Rows of workspaces by `comet info`, a line of flags each."""
    rows = []
    for line in lines_of(experiment, "none"):
        command = [arguments.comet, "info", *line.split(), "--backend", "cpu", "--json"]
        info = bench_cases.json_of(f"comet info {line}", command)
        row = {"suite": bench_cases.SUITE, "kind": "workspace", "command": f"comet info {line}",
               "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
               "model": re.search(r"--model (\S+)", line)[1],
               "tokens": int(re.search(r"--tokens (\d+)", line)[1]),
               **info["workspace"]}
        row["workspace_mb"] = row["bytes"] / 2**20
        for entry in experiment.get("paper", []):
            if charts.matches(row, entry["where"]):
                row.update(entry["has"])
                row["over_paper"] = row["workspace_mb"] / entry["has"]["paper_mb"]
        rows.append({**row, "point": line})
    return rows


def run_points(experiment, arguments, known, keep, seconds):
    """Has keep(rows) called for each point that is not known yet; which failed, and whether all others are done."""
    if experiment.get("by") == "info":
        keep([row for row in info_rows(experiment, arguments) if row["point"] not in known])
        return {}, True
    lines = [line for line in lines_of(experiment, arguments.scale, arguments.no_graphs, arguments.backend)
             if line not in known]
    rounds = experiment["rounds"] if arguments.scale == "none" else 1
    flags = [*world_flags(arguments), "--suite", bench_cases.SUITE, "--rounds", str(rounds)]

    def take(line, rows):
        add_ratios(experiment, rows)
        keep([{**row, "point": line} for row in rows])

    return bench_cases.run_cases(arguments.comet, flags, lines, take, seconds)


def add_traces(name, experiment, arguments, table, deadline):
    """Says in rows that ask for it where their calls' time goes; which points failed, and whether all others are done."""
    failed = {}
    wanted = experiment.get("traced")
    for row in table.of(name) if wanted else []:
        if traced_calls.lacks_parts(row, wanted["efficiency_below"], wanted["link_above_gbs"]):
            if deadline.is_over():
                return failed, False
            try:
                traced_calls.add_to(row, arguments.comet, world_flags(arguments))
            except Failure as failure:
                failed[row["point"]] = str(failure)
            table.write()
    return failed, True


def print_summary(name, rows):
    """Geometric means of what comet gained, from graphs and without."""
    for graph, (key, over) in itertools.product((True, False), (("speedup_vs_sequential", "sequential"),
                                                                ("speedup_vs_pipelined", "pipelined"))):
        best = {}
        for row in rows:
            if row.get("schedule") == "comet" and row["graph"] == graph and row.get(key):
                best[row["point"]] = max(row[key], best.get(row["point"], 0.0))
        if best:
            mean = math.exp(sum(map(math.log, best.values())) / len(best))
            say(f"{name}: {len(best)} cases{'' if graph else ' without graphs'}, comet over {over}: {mean:.2f}x"
                f" ({min(best.values()):.2f} to {max(best.values()):.2f})")


class Table:
    """The rows of all experiments in OUT/rows.jsonl, or in the file that --draw names."""

    def __init__(self, arguments):
        self.path = arguments.draw or arguments.out / "rows.jsonl"
        self.rows = bench_cases.rows_of(self.path) if arguments.draw else bench_cases.read_rows(self.path)

    def of(self, name):
        return [row for row in self.rows if row.get("experiment") == name and row.get("kind") != "experiment"]

    def begin(self, name, experiment, keeps_rows):
        """Makes place for an experiment's rows, and says what it is."""
        self.rows = [row for row in self.rows if row.get("experiment") != name
                     or (keeps_rows and row.get("kind") != "experiment")]
        self.add(name, [header(name, experiment)])

    def add(self, name, rows):
        self.rows += [{"experiment": name, **row} for row in rows]
        self.write()

    def write(self):
        bench_cases.write_rows(self.path, self.rows)


def show_experiment(name, experiment, rows, out):
    """Its picture and its means."""
    emulated = any(row.get("link_emulated") for row in rows)
    picture = {**experiment, "picture_note": ", link EMULATED" if emulated else ""}
    if rows and not charts.draw(picture, rows, out, name):
        say(f"run.py: {charts.MISSING}")
    print_summary(name, rows)


def draw_all(chosen, table, out):
    """The pictures of those experiments that the table has rows of."""
    known = [name for name in chosen if table.of(name)]
    if not known:
        raise Failure(f"{table.path}: no rows of {', '.join(chosen)}")
    out.mkdir(parents=True, exist_ok=True)
    for name in known:
        show_experiment(name, read_experiment(name), table.of(name), out)


def run_experiment(name, arguments, table, seconds):
    """Runs, writes and draws one; which points failed, and whether all others are done."""
    experiment = read_experiment(name)
    begun, deadline, num_points = time.monotonic(), Deadline(seconds), 0

    def keep(rows):
        nonlocal num_points
        num_points += len({row["point"] for row in rows})
        table.add(name, rows)

    say(f"{name}: {experiment['title']}; about {experiment['seconds']} s on one H200")
    table.begin(name, experiment, arguments.resume)
    known = {row["point"] for row in table.of(name)}
    failed, is_whole = run_points(experiment, arguments, known, keep, seconds)
    if is_whole:
        untraced, is_whole = add_traces(name, experiment, arguments, table, deadline)
        failed.update(untraced)
    show_experiment(name, experiment, table.of(name), arguments.out)
    for line, why in failed.items():
        say(f"{name}: FAILED {line}: {why}")
    say(f"{name}: {num_points} new cases in {time.monotonic() - begun:.0f} s")
    return failed, is_whole


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or of {', '.join(names())}")
    parser.add_argument("--comet", type=Path, default=FOLDER.parents[1] / "build" / "cuda" / "comet",
                        help="the command; default build/cuda/comet")
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", default="none",
                        help="as of comet bench; demo or 32: small enough for a CPU, to see that all works")
    parser.add_argument("--out", type=Path, default=Path("build/experiments"),
                        help="folder of rows and pictures; default build/experiments")
    parser.add_argument(NO_GRAPHS, action="store_true",
                        help="each case once more with calls that are launched anew, not replayed from CUDA graphs")
    parser.add_argument("--resume", action="store_true", help="keep the rows that OUT has, run the rest")
    parser.add_argument("--seconds", type=bench_cases.seconds_of,
                        help="stop after about so long, the case in hand finished; go on with --resume")
    parser.add_argument("--draw", type=Path, metavar="ROWS",
                        help="run nothing: draw the pictures of these rows, which a machine without matplotlib made")
    parser.add_argument("--list", action="store_true", help="say what there is and end")
    arguments = parser.parse_args()
    if arguments.no_graphs and arguments.backend == "cpu":
        parser.error(f"{NO_GRAPHS}: calls on cpu are never replayed; for --backend cuda")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.list:
        for name in names():
            experiment = read_experiment(name)
            say(f"{name:<12} {experiment['figure']:<18} {experiment['seconds']:>4} s  {experiment['title']}")
        return 0
    if not arguments.names:
        raise Failure(f"no experiment named: all, or of {', '.join(names())}")
    chosen = names() if arguments.names == ["all"] else arguments.names
    for name in chosen:
        read_experiment(name)
    if not arguments.draw:
        bench_cases.check_command(arguments.comet)
    table, deadline, num_failed = Table(arguments), Deadline(arguments.seconds), 0
    if arguments.draw:
        draw_all(chosen, table, arguments.out)
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        failed, is_whole = {}, False
        if not deadline.is_over():
            failed, is_whole = run_experiment(name, arguments, table, deadline.left())
        num_failed += len(failed)
        if not is_whole:
            say(f"stopped in {name} for want of time: the same command with --resume goes on")
            break
    if num_failed:
        raise Failure(f"{num_failed} cases failed; the same command with --resume tries them again")
    return 0


if __name__ == "__main__":
    sys.exit(bench_cases.main_of(main))
