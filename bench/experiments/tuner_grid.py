#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How good the tuner's choices are, and what a fixed number of communication multiprocessors would lose.

In each case of a grid: `comet tune` chooses; all numbers of communication multiprocessors of each stage
are swept, with several groups and panels, and timed side by side; and the best of the sweep, the tuner's
choice and the model's own are timed again in the same rounds. Prints how much slower the choices are
than the best. It stops after --seconds, the case in hand finished, and goes on at the next call. A case that
fails is named and left out, makes the exit code 1, and is tried again by the next call. After a change of the model
--model-anew takes its choices anew, and times those cases' last rounds once more whose choice is another now.
"""

import argparse
import itertools
import json
import re
import statistics
import sys
import time
from pathlib import Path

import bench_cases
import charts
from bench_cases import Deadline, Failure, say
from run import n_c_choices

NAME, TITLE = "tuner", "How good the tuner's choices are"
MODELS = ("mixtral-8x7b", "qwen2-moe-2.7b", "phi-3.5-moe")
TOKENS = ("2048", "4096", "8192", "16384")  # of all ranks together
SPLITS = ("8x1", "1x8", "4x2")  # EP x TP; after two of them there are 72 cases
LINKS = ("paced:20", "paced:45", "native")
N_C = (1, 2, 3, 4, 6, 8)
OTHER = 2  # multiprocessors of the stage that is not swept
GROUPS = (1, 2, 4)
SWEEP_ROUNDS, FINAL_ROUNDS = 2, 9
TUNED_WITHIN, MODEL_WITHIN = 0.02, 0.08
KEYS = ("model", "tokens", "ep", "tp", "link")
TIMES = ("sequential_us", "best_us", "tuned_us", "model_us")
COLUMNS = [
    *({"key": key, "title": key} for key in KEYS),
    {"key": "best", "title": "best of the sweep"}, {"key": "tuned", "title": "the tuner's"},
    {"key": "by_model", "title": "the model's"},
    *({"key": key, "title": key.replace("_us", ", us"), "digits": 1} for key in TIMES),
    {"key": "tuned_loss", "title": "tuner over best - 1", "digits": 4},
    {"key": "model_loss", "title": "model over best - 1", "digits": 4},
]


def key_of(row):
    return tuple(str(row[key]) for key in KEYS)


def case_of(key):
    """The values of a case, as rows of comet bench have them."""
    model, tokens, ep, tp, link = key
    return {"model": model, "tokens": int(tokens), "ep": int(ep), "tp": int(tp), "link": link}


def flags_of(key):
    """A case as flags of comet bench."""
    model, tokens, ep, tp, link = key
    return f"--model {model} --tokens {tokens} --ep {ep} --tp {tp} --link {link}"


def choice_text(config):
    """A choice as --choices takes it."""
    waves = f":{config['waves']}" if config.get("waves") else ""
    return (f"{config['groups']}:{config['panel']}:{config['n_c_dispatch']}/{config['n_c_combine']}"
            f":{config['placement']}{waves}")


def choice_of_row(row):
    return choice_text({**row, "placement": row.get("communication", "warps")})


def preferred(comet, machine, row, ranks_per_device=None):
    """The model's choice in a case as --choices takes it, and its time in microseconds; `machine` are flags."""
    key = key_of(row)
    command = [comet, "plan", *flags_of(key).split(), "--dtype", row.get("dtype", "bf16"), "--predict",
               *machine, "--ranks-per-device", ranks_per_device or row["ep"] * row["tp"], "--json"]
    schedules = bench_cases.json_of(", ".join(key), command)["prediction"]["schedules"]
    first = next(one for one in schedules if one["schedule"] == "comet")
    return choice_text(first), first["predicted_us"]


class Grid:
    """The cases, what is known of them, and the commands that find out more."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.path = arguments.rows or arguments.out / "tuner.jsonl"
        # CPUs know no placements, and call theirs warps.
        self.swept = "blocks" if arguments.backend == "cuda" else "warps"
        rows = bench_cases.rows_of(self.path) if arguments.rows else bench_cases.read_rows(self.path)
        self.known = {key_of(row): row for row in rows if row.get("kind") == "case"}
        self.failed = {}  # {case: what went wrong}

    def flags(self):
        """Of all commands alike."""
        flags = ["--backend", self.arguments.backend, *(self.arguments.flags or "").split()]
        return flags + (["--dtype", "bf16"] if self.arguments.backend == "cuda" else [])

    def batches(self):
        """Lists of cases that share their weights; a list is a grid of tokens and links."""
        a = self.arguments
        for split, model in itertools.product(a.splits, a.models):
            ep, tp = split.split("x")
            yield [(model, tokens, ep, tp, link)
                   for tokens, link in itertools.product(a.tokens, a.links)]

    def keep(self, key, news):
        row = self.known.setdefault(key, {"suite": bench_cases.SUITE, "experiment": NAME,
                                          "kind": "case", **case_of(key)})
        row.update(news, date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        bench_cases.write_rows(self.path, list(self.known.values()))

    def take_model_anew(self):
        """By the model as it is and the profile's constants; what was swept and tuned stays."""
        machine = ["--profile", self.arguments.out / "tuner_profile.json"]
        others = 0
        for row in self.known.values():
            if "sweep" not in row:
                continue
            choice, predicted_us = preferred(self.arguments.comet, machine, row)
            row["predicted_us"] = predicted_us
            if choice != row["by_model"]:
                others += 1
                row["by_model"] = choice
                row.pop("finals", None)
        bench_cases.write_rows(self.path, list(self.known.values()))
        say(f"the model chooses otherwise in {others} cases")

    def lacking(self, batch, what):
        return [key for key in batch if what not in self.known.get(key, {}) and key not in self.failed]

    def fail(self, key, why):
        self.failed[key] = why
        say(f"FAILED {', '.join(key)}: {why}")

    def tune(self, keys, seconds):
        """The tuner's and the model's choice of each case; cases of one model and split."""
        grid = [key for key in keys if key not in self.failed]
        code, why = self.tune_grid(grid, seconds)
        if code in (0, bench_cases.INTERRUPTED):
            return
        deadline = Deadline(seconds)
        # Which case it was is found by running each alone.
        for key in self.lacking(grid, "tuned"):
            if deadline.is_over():
                return
            code, why = self.tune_grid([key], deadline.left())
            if code not in (0, bench_cases.INTERRUPTED):
                self.fail(key, why)

    def tune_grid(self, keys, seconds):
        """`comet tune` for all combinations of the cases' tokens and links; its exit code and what went wrong."""
        a, (model, _, ep, tp, _) = self.arguments, keys[0]
        profile = a.out / "tuner_profile.json"

        def take(line):
            if not line.startswith("{"):
                return
            row = json.loads(line)
            if row["measured_now"]:
                self.keep(key_of(row), {
                    "tuned": choice_text(row["best"]), "by_model": choice_text(row["model_choice"]),
                    "predicted_us": row["model_choice"]["predicted_us"], "workers": row["workers"],
                    "calibrated": is_calibrated(profile),
                    "hidden": row["hidden"], "tile": f"{row['best']['block_m']}x{row['best']['block_n']}"})

        command = [a.comet, "tune", *self.flags(), "--models", model, "--splits", f"{ep}x{tp}",
                   "--token-counts", ",".join(dict.fromkeys(key[1] for key in keys)),
                   "--links", ",".join(dict.fromkeys(key[4] for key in keys)), "--profile", profile, "--json"]
        # What was tuned but not kept, since its process was killed in between, is tuned anew.
        if self.is_cut(keys):
            command.append("--again")
        return bench_cases.run_command(command, seconds, take)

    def is_cut(self, batch):
        """Whether the profile has a case that the rows lack."""
        path = self.arguments.out / "tuner_profile.json"
        if not path.exists():
            return False
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        lacking = set(self.lacking(batch, "tuned"))
        return any(key_of(row) in lacking for row in rows)

    def sweep_of(self, key):
        """All choices that the sweep times: the tuner's and the model's among them."""
        row = self.known[key]
        eighth = -(-row["hidden"] // 8)
        if self.arguments.backend == "cuda":
            eighth = -(-eighth // 256) * 256  # whole tiles
        panels = (eighth, 2 * eighth)
        warps = [f"{count}:{panel}:{row['workers']}/{row['workers']}:warps"
                 for count, panel in itertools.product(GROUPS, panels)]
        swept = n_c_choices(self.arguments.n_c, OTHER, GROUPS, panels, self.swept)
        return list(dict.fromkeys([*swept, *warps, row["tuned"], row["by_model"]]))

    def finals_of(self, key):
        row = self.known[key]
        swept = sorted(row["sweep"], key=row["sweep"].get)
        return list(dict.fromkeys([*swept[:2], row["tuned"], row["by_model"]]))

    def bench(self, keys, choices_of, rounds, what, seconds):
        """Times choices of each case, and keeps their times as `what` as soon as they are there."""
        lines = {f"{flags_of(key)} --choices {','.join(choices_of(key))}": key for key in keys}
        shared = ["--world", "local", *self.flags(), "--suite", bench_cases.SUITE, "--rounds",
                  str(rounds), "--schedules", "sequential,comet"]
        failed, _ = bench_cases.run_cases(
            self.arguments.comet, shared, list(lines), lambda line, rows: self.keep_times(lines[line], rows, what),
            seconds, on_line=lambda line: None)  # tables of 70 rows a case
        for line, why in failed.items():
            self.fail(lines[line], why)

    def keep_times(self, key, rows, what):
        comets = [row for row in rows if row["schedule"] == "comet"]
        times = {choice_of_row(row): round(row["t_layer_us"], 2) for row in comets}
        first = rows[0]
        self.keep(key, {
            what: times, "swept": self.swept, "sequential_us": first["t_layer_us"] * first["speedup_vs_sequential"],
            "device": first["device"], "commit": first["commit"], "evidence": first["evidence"],
            "link_emulated": first["link_emulated"], "command": comet_command(first, what)})
        best = min(times, key=times.get)
        say(f"{what} {', '.join(key)}: {len(times)} choices, best {best} {times[best] / 1000:.3f} ms")

    def run(self, deadline):
        """Whether all cases are known now."""
        steps = (("tuned", lambda keys, left: self.tune(keys, left)),
                 ("sweep", lambda keys, left:
                  self.bench(keys, self.sweep_of, SWEEP_ROUNDS, "sweep", left)),
                 ("finals", lambda keys, left:
                  self.bench(keys, self.finals_of, FINAL_ROUNDS, "finals", left)))
        for batch in self.batches():
            for what, step in steps:
                lacking = self.lacking(batch, what)
                if not lacking:
                    continue
                if deadline.is_over():
                    return False
                step(batch if what == "tuned" else lacking, deadline.left())
                if self.lacking(batch, what):
                    return False
                left = sum(len(self.lacking(each, "finals")) for each in self.batches())
                say(f"{what}: {len(lacking)} cases of {batch[0][0]}, EP{batch[0][2]} x TP{batch[0][3]}; "
                    f"{left} cases are to be finished")
        return True


def is_calibrated(profile):
    """Whether the constants for predictions were measured on this device."""
    return profile.exists() and json.loads(profile.read_text(encoding="utf-8"))["machine"] is not None


def comet_command(row, what):
    """What timed a case: without the choices, which are the keys of its times."""
    command, _, _ = row["command"].partition(" --choices ")
    return f"{command} --choices {{{what}}}"


def judge(row):
    """How much slower the choices are than the best of all that was timed in the last rounds."""
    finals = row["finals"]
    best = min(finals, key=finals.get)
    row.update(best=best, best_us=finals[best], tuned_us=finals[row["tuned"]],
               model_us=finals[row["by_model"]])
    row.update(tuned_loss=row["tuned_us"] / row["best_us"] - 1,
               model_loss=row["model_us"] / row["best_us"] - 1)
    return row


def fixed_losses(rows):
    """{(n_c dispatch, n_c combine): a loss a case} with the best groups and panel for that pair.

    Against the best of all swept pairs, so that nothing but n_c is fixed; of blocks of their own on GPUs, since communication
    on warps of all multiprocessors leaves nothing to divide.
    """
    losses = {}
    for row in rows:
        best = {}
        for choice, us in row["sweep"].items():
            _, _, pair, placement = choice.split(":")
            if placement == row["swept"]:
                best[pair] = min(us, best.get(pair, us))
        for pair, us in best.items():
            losses.setdefault(pair, []).append(us / min(best.values()) - 1)
    return {pair: values for pair, values in losses.items() if len(values) == len(rows)}


def summary(rows):
    """What was found, a sentence each."""
    if not rows:
        return ["No case is finished."]
    sentences = [f"{len(rows)} cases; all choices of a case were timed in the same rounds."]
    for key, who, within in (("tuned_loss", "The tuner's choice", TUNED_WITHIN),
                             ("model_loss", "The model's own choice", MODEL_WITHIN)):
        losses = [row[key] for row in rows]
        near = sum(loss <= within for loss in losses) / len(losses)
        worst = max(rows, key=lambda row: row[key])
        sentences.append(f"{who} is within {within:.0%} of the best in {near:.0%} of the cases, "
                         f"{statistics.mean(losses):.1%} slower on average and {worst[key]:.1%} at worst "
                         f"({', '.join(key_of(worst))}).")
    fixed = fixed_losses(rows)
    if fixed:
        pair = min(fixed, key=lambda pair: statistics.mean(fixed[pair]))
        sentences.append(
            f"Of {rows[0]['swept']}, the best fixed n_c, {pair} (dispatch/combine), loses {statistics.mean(fixed[pair]):.1%} "
            f"on average and {max(fixed[pair]):.1%} at worst against the best n_c of each case, groups and "
            f"panel being the best for it; the worst fixed one loses "
            f"{max(statistics.mean(values) for values in fixed.values()):.1%} on average.")
    return sentences


def draw_losses(folder, rows):
    """In which share of the cases each choice loses at most so much."""
    points = [{"who": who, "share": (i + 1) / len(rows), "loss": loss}
              for key, who in (("tuned_loss", "the tuner"), ("model_loss", "the model alone"))
              for i, loss in enumerate(sorted(row[key] for row in rows))]
    chart = {"kind": "lines", "title": f"{len(rows)} cases, links named paced EMULATED", "x": "share",
             "y": "loss", "series": ["who"], "x_label": "share of the cases",
             "y_label": "time over the best, less 1, at most"}
    if not charts.draw({"title": TITLE, "charts": [chart]}, points, folder, NAME):
        say(f"tuner_grid.py: {charts.MISSING}")


def write_report_rows(arguments, grid):
    """Rows and a picture for comet report, and the summary on standard output."""
    rows = [judge(dict(row)) for row in grid.known.values() if "finals" in row]
    sentences = summary(rows)
    header = {"suite": bench_cases.SUITE, "kind": "experiment", "experiment": NAME, "columns": COLUMNS,
              "title": TITLE,
              "about": " ".join(__doc__.split("\n\n", 1)[1].split()), "said": sentences}
    short = [{key: value for key, value in row.items() if key not in ("sweep", "finals")} for row in rows]
    bench_cases.write_rows(arguments.out / "tuner_rows.jsonl", [header, *short])
    if rows:
        draw_losses(arguments.out, rows)
    for sentence in sentences:
        say(sentence)


def words(text):
    return text.split(",")


def numbers(text, least):
    """Whole numbers with commas between."""
    for word in words(text):
        if not (word.isascii() and word.isdigit() and int(word) >= least):
            raise argparse.ArgumentTypeError(f"'{word}', a whole number of at least {least}")
    return [int(word) for word in words(text)]


def token_counts(text):
    return [str(count) for count in numbers(text, 1)]


def splits(text):
    """EP x TP, with commas between."""
    for word in words(text):
        if not re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", word):
            raise argparse.ArgumentTypeError(f"'{word}', <EP>x<TP>, for example 4x2")
    return words(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", type=Path, default=Path("build/cuda/comet"),
                        help="the command; default build/cuda/comet")
    parser.add_argument("--rows", type=Path, metavar="ROWS",
                        help="run nothing: judge these cases, a tuner.jsonl, and draw the picture")
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("build/experiments"),
                        help="folder of what is found; default build/experiments")
    parser.add_argument("--seconds", type=bench_cases.seconds_of, help="stop after about so long; the same command goes on")
    parser.add_argument("--model-anew", action="store_true",
                        help="first take the model's choices of swept cases anew, on GPUs, and time them")
    parser.add_argument("--flags", help="more flags of comet bench and comet tune, as one argument")
    for name, read, default in (("models", words, MODELS), ("tokens", token_counts, TOKENS), ("splits", splits, SPLITS),
                                ("links", words, LINKS)):
        parser.add_argument(f"--{name}", type=read, default=list(default),
                            help=f"with commas between; default {','.join(default)}")
    parser.add_argument("--n-c", type=lambda text: numbers(text, 0), default=list(N_C),
                        help=f"numbers to be swept; default {','.join(map(str, N_C))}")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.model_anew and (arguments.rows or arguments.backend != "cuda"):
        raise Failure("--model-anew: of a grid on GPUs that is run, not with --rows or --backend cpu")
    if not arguments.rows:
        bench_cases.check_command(arguments.comet)
    grid, deadline = Grid(arguments), Deadline(arguments.seconds)
    if arguments.rows and not any("finals" in row for row in grid.known.values()):
        raise Failure(f"{arguments.rows}: no finished case of tuner_grid.py")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.model_anew:
        grid.take_model_anew()
    try:
        is_whole = bool(arguments.rows) or grid.run(deadline)
    finally:
        write_report_rows(arguments, grid)
    if not is_whole:
        say("stopped for want of time: the same command goes on")
    if grid.failed:
        raise Failure(f"{len(grid.failed)} cases failed; the same command tries them again")
    return 0


if __name__ == "__main__":
    sys.exit(bench_cases.main_of(main))
