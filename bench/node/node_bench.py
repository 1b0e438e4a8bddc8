#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times Comet on the GPUs of one machine, a rank on each: the paper's grid, sweeps of the division of
work, and the scale model, in which as many ranks share one GPU.

  topology  what joins the GPUs, as the driver tells it
  link      rates of their links and latency of signals, by link_rates
  grid      sequential, the best pipelined and the best comet: three models, 4096 to 65536 tokens, splits
            into EP x TP; and one of them with fewer experts a token, for which ranks communicate more
  few       the same models with 64 to 1024 tokens, as where answers are generated
  sweep     comet by number of groups, with as many waves as it chooses and with more, and by number of
            multiprocessors that communicate; pipelined by number of reserved ones
  scale     the ratio of sequential to comet with all ranks on one GPU, over a link EMULATED at the
            measured rate (rows of kind "link") divided by the ranks, as their computation is

Cases come in the order of their worth, those of a model by one `comet bench`, which draws its weights once.
None begins after --seconds; what is left out is named. One that fails holds up no other; exit code 1 then.
Rows, of suite "node", go to the file that COMET_ROWS names, if any.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench_cases import run_cases
from overlap_grid import MODELS, add_origin

# In all. The first ones are what the paper's figures have most of.
TOKENS = (16384, 8192, 32768, 4096, 65536)
# Beside the paper's, whose communication takes less than a quarter of computation with few GPUs over NVLink:
# the model, tokens, and experts a token.
MORE_CASES = (("qwen2-moe-2.7b", 32768, 2), ("qwen2-moe-2.7b", 32768, 1), ("qwen2-moe-2.7b", 16384, 2),
              ("qwen2-moe-2.7b", 16384, 1))
FIRST_TOKENS = 3  # of TOKENS, before MORE_CASES
FEW_TOKENS = (64, 256, 1024)
SWEEP_CASES = (("qwen2-moe-2.7b", 16384, "tp"), ("mixtral-8x7b", 16384, "ep"), ("mixtral-8x7b", 8192, "tp"),
               ("qwen2-moe-2.7b", 16384, "ep"))
GROUPS = (1, 2, 4, 8)
WAVES = (2, 4, 8)
MULTIPROCESSORS = (2, 4, 8, 16, 32)  # that communicate, of a GPU's 132
ALL = 132
CASE_IN_HAND_S = 12  # what `comet bench` may still take when it is asked to stop
SCALE_CASES = (("mixtral-8x7b", 8192, "tp"), ("mixtral-8x7b", 8192, "ep"),
               ("qwen2-moe-2.7b", 16384, "ep"), ("qwen2-moe-2.7b", 8192, "tp"),
               ("phi-3.5-moe", 8192, "ep"), ("phi-3.5-moe", 8192, "tp"))


def splits_of(ranks):
    """EP x TP, the pure ones and the mixed ones."""
    pure = [(ranks, 1), (1, ranks)] if ranks > 1 else [(1, 1)]
    return pure, [(ranks // tp, tp) for tp in range(2, ranks) if ranks % tp == 0]


def split_named(name, ranks):
    return (ranks, 1) if name == "ep" else (1, ranks)


class Case(NamedTuple):
    """What `comet bench` is told of a case beside what all have."""

    model: str
    tokens: int
    split: tuple  # EP, TP
    topk: int = 0  # 0: the model's own
    flags: str = ""

    @property
    def line(self):
        topk = f" --topk {self.topk}" if self.topk else ""
        return (f"--model {self.model} --tokens {self.tokens} --ep {self.split[0]} --tp {self.split[1]}{topk} "
                f"{self.flags}").rstrip()

    @property
    def name(self):
        topk = f" top-{self.topk}" if self.topk else ""
        return f"{self.model} {self.tokens} EP{self.split[0]}xTP{self.split[1]}{topk} {self.flags}".rstrip()


def shared_flags(ranks, link, *more):
    return ["--world", f"local:{ranks}", "--backend", "cuda", "--dtype", "bf16", "--link", link, "--suite", "node",
            *more]


ALL_SCHEDULES = ("--placement", "warps", "--schedules", "sequential,pipelined,comet")


def read_link_rate(path):
    """The best measured rate of a GPU while all are at work, bytes per nanosecond: the lower of pull's and
    push's, since a layer does as much of the one as of the other."""
    best = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("kind") == "link" and row["ring"]:
            best[row["direction"]] = max(best.get(row["direction"], 0), row["gbs"])
    if set(best) != {"pull", "push"}:
        sys.exit(f"node_bench: {path} has no rows of kind link with pull and push: run the part 'link' first")
    return min(best.values())


class Runner:
    """Runs cases until the time is over, and keeps what they wrote."""

    def __init__(self, comet, gpus, seconds):
        self.comet = comet
        self.gpus = gpus
        self.end = time.monotonic() + seconds
        self.left_out = []
        self.failures = []
        self.path = os.environ.get("COMET_ROWS")

    def run(self, kind, shared, cases):
        """The rows of each case that there was time for, as they come: (case, rows)."""
        for _, of_model in itertools.groupby(cases, lambda case: case.model):
            yield from self.run_model(kind, shared, {case.line: case for case in of_model})

    def run_model(self, kind, shared, cases):
        """`cases` by their lines."""
        left = self.end - time.monotonic() - CASE_IN_HAND_S
        if left <= 0:
            self.left_out += [case.name for case in cases.values()]
            return
        found = {}

        def keep(line, rows):
            self.keep(rows, kind)
            found.setdefault(line, []).extend(rows)

        failed, _ = run_cases(self.comet, shared, list(cases), keep, left, lambda _: None)
        for line, why in failed.items():
            self.fail(cases[line].name, why)
        self.left_out += [case.name for line, case in cases.items() if line not in found and line not in failed]
        for line, rows in found.items():
            yield cases[line], rows

    def keep(self, rows, kind):
        for row in rows:
            row["kind"] = kind
            row["gpus"] = self.gpus
            add_origin(row, True)
        self.write(rows)

    def fail(self, name, why):
        print(f"{name} FAILED: {why}", flush=True)
        self.failures.append(name)

    def write(self, rows):
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)

    def summary(self):
        if self.left_out:
            print(f"no time for {len(self.left_out)}: {'; '.join(self.left_out)}")
        if self.failures:
            print(f"failed: {'; '.join(self.failures)}")


def ms(row):
    return f"{row['t_layer_us'] / 1000:8.3f}"


def by_schedule(rows):
    return {row["schedule"]: row for row in rows}


def grid_cases(arguments):
    """Pure splits of the paper's grid, cases that communicate more between them, and mixed splits."""
    pure, mixed = splits_of(arguments.ranks)

    def of_paper(tokens, splits):
        return [Case(model, count, split)
                for model, count, split in itertools.product(arguments.models, tokens, splits)]

    more = [Case(model, tokens, split, topk) for model, tokens, topk in MORE_CASES if model in arguments.models
            for split in pure]
    first, rest = arguments.tokens[:FIRST_TOKENS], arguments.tokens[FIRST_TOKENS:]
    return [*of_paper(first, pure), *more, *of_paper(rest, pure), *of_paper(arguments.tokens, mixed)]


def few_cases(arguments):
    return [Case(model, count, split) for model, split, count
            in itertools.product(arguments.models, splits_of(arguments.ranks)[0], FEW_TOKENS)]


def run_grid(runner, arguments):
    run_cases_of(runner, "layer", grid_cases(arguments), arguments)


def run_few(runner, arguments):
    run_cases_of(runner, "few", few_cases(arguments), arguments)


def run_cases_of(runner, kind, cases, arguments):
    """A line per case."""
    shared = shared_flags(arguments.ranks, "native", *ALL_SCHEDULES)
    for case, found in runner.run(kind, shared, cases):
        rows = by_schedule(found)
        comet = rows["comet"]
        print(f"{case.name:<36} ms: computation {comet['t_compute_us'] / 1000:8.3f} sequential "
              f"{ms(rows['sequential'])} pipelined {ms(rows['pipelined'])} comet {ms(comet)}"
              f" | x{comet['speedup_vs_sequential']:.2f}"
              f" x{rows['pipelined']['t_layer_us'] / comet['t_layer_us']:.2f}"
              f" | G {comet['groups']} panel {comet['panel']}", flush=True)


def run_sweep(runner, arguments):
    """A line per case and kind of division."""
    choices = [f"{groups}:0:{ALL}/{ALL}:warps" for groups in GROUPS]
    choices += [f"{choice}:{waves}" for waves in WAVES for choice in choices]
    choices += [f"1:0:{n}/{n}:blocks" for n in MULTIPROCESSORS]
    divisions = [f"--schedules comet --choices {','.join(choices)}"]
    divisions += [f"--schedules pipelined --n-c-dispatch {n} --n-c-combine {n}" for n in MULTIPROCESSORS]
    cases = [Case(model, tokens, split_named(named, arguments.ranks), flags=flags)
             for model, tokens, named in SWEEP_CASES for flags in divisions]
    times = {}
    for case, rows in runner.run("sweep", shared_flags(arguments.ranks, "native"), cases):
        for row in rows:
            is_grouped = row.get("communication") == "warps"
            title = "pipelined, n_c" if row["schedule"] == "pipelined" else f"comet, {row['communication']}"
            if row.get("waves"):
                title += f", {row['waves']} waves"
            value = row["groups"] if is_grouped else row["n_c_dispatch"]
            times.setdefault((case._replace(flags="").name, title), {})[value] = ms(row).strip()
    for (name, title), found in times.items():
        print(f"{name:<36} {title:<21} ms: {', '.join(f'{n}: {found[n]}' for n in sorted(found))}", flush=True)


def run_scale(runner, arguments):
    """A line per case."""
    rate = read_link_rate(arguments.link_rows) / arguments.ranks
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    print(f"{arguments.ranks} ranks on one GPU, link EMULATED at {rate:.1f} GB/s")
    cases = [Case(model, tokens, split_named(named, arguments.ranks)) for model, tokens, named in SCALE_CASES]
    shared = shared_flags(arguments.ranks, f"paced:{rate:.1f}", *ALL_SCHEDULES)
    for case, found in runner.run("scale", shared, cases):
        rows = by_schedule(found)
        print(f"{case.name:<36} ms: sequential {ms(rows['sequential'])} comet {ms(rows['comet'])}"
              f" | x{rows['comet']['speedup_vs_sequential']:.2f}", flush=True)


def run_topology(runner, _):
    """The driver's matrix of links."""
    done = subprocess.run(["nvidia-smi", "topo", "-m"], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"node_bench: nvidia-smi topo -m: exit {done.returncode}: {done.stdout.strip()}")
    matrix = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.split("\nLegend")[0])
    names = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    print(matrix)
    runner.write([add_origin({"suite": "node", "kind": "topology", "gpus": len(names), "device": names[0],
                              "commit": "unknown", "matrix": matrix.splitlines()}, True)])


def run_link(runner, arguments):
    """link_rates, and its rows with their origin."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        done = subprocess.run([arguments.link_rates.resolve(), "--gpus", str(arguments.gpus), "--json", path],
                              check=False)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [{**json.loads(line), "command": "link_rates", "commit": "unknown"} for line in lines]
    runner.write([add_origin(row, done.returncode == 0) for row in rows])
    if done.returncode != 0:
        sys.exit(f"node_bench: link_rates: exit {done.returncode}")


PARTS = {"topology": run_topology, "link": run_link, "grid": run_grid, "few": run_few, "sweep": run_sweep, "scale": run_scale}


def words(text):
    return text.split(",")


def numbers(text):
    return [int(word) for word in words(text)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--comet", type=Path, required=True, help="the command, built with CUDA")
    parser.add_argument("--ranks", type=int, required=True, help="GPUs, or more on a machine with one")
    parser.add_argument("--gpus", type=int, required=True, help="of the machine; ranks spread over them")
    parser.add_argument("--seconds", type=float, default=600, help="no case begins in the last of them; default 600")
    parser.add_argument("--link-rates", type=Path, help="link: the program")
    parser.add_argument("--link-rows", type=Path, help="scale: file with the rows of link_rates")
    parser.add_argument("--models", type=words, default=MODELS, help=f"grid and few; default {','.join(MODELS)}")
    parser.add_argument("--tokens", type=numbers, default=TOKENS,
                        help=f"grid; default {','.join(map(str, TOKENS))}")
    arguments = parser.parse_args()
    for name in ("ranks", "gpus"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name}: {getattr(arguments, name)}, needs at least 1")
    if arguments.part == "scale" and arguments.link_rows is None:
        parser.error("the part scale needs --link-rows")
    if arguments.part == "link" and arguments.link_rates is None:
        parser.error("the part link needs --link-rates")
    runner = Runner(arguments.comet.resolve(), arguments.gpus, arguments.seconds)
    PARTS[arguments.part](runner, arguments)
    runner.summary()
    return 1 if runner.failures else 0


if __name__ == "__main__":
    sys.exit(main())
