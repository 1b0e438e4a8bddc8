#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks that are processes on Hopper GPUs beside ranks that are threads: bits, deaths and times.

Checks that processes (world nvshmem) give the bits of as many ranks of one process on as many GPUs, also
where they are forced to put to each other; and that when a rank is killed or stopped, the dead one is named,
all end within the time limit and two seconds, and neither process nor MPS is left, whether comet launch or
mpirun has started them. Claims that a call takes at most 1.10 times as long by the same choices, those that are
best for threads: both run by turns, and the faster of their runs counts, since one run's time is up to a twentieth
off. With more ranks than GPUs, which is the default, they share them under MPS.

Appends its rows, of suite "processes", to the file that COMET_ROWS names, if any. Links named paced are
EMULATED. Forced puts test the calls, not how a network delivers.
"""

import argparse
import contextlib
import datetime
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from overlap_grid import CLAIMS_BROKEN, MODELS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from mps import private_mps  # noqa: E402

RANKS = (1, 2, 8)  # by default, on one GPU
LINK = "paced:20"  # by default, of ranks that share GPUs
OVER_LOCAL = 1.10
RUNS = 2  # of a time
TIMEOUT_MS = 2000
SECONDS_LEFT = TIMEOUT_MS / 1000 + 2
START_SECONDS = 30
CHECK = ("check", "--backend", "cuda", "--random", "1000000")
RUN = "COMET_PROCESS_WORLDS"  # in the environment of all that is started here: this process's number


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Report:
    """Rows, what is wrong, and which claims about speed do not hold."""

    def __init__(self, gpu, num_gpus):
        self.gpu = gpu
        self.num_gpus = num_gpus
        self.wrong = []
        self.claims = []
        self.path = os.environ.get("COMET_ROWS")

    def add(self, kind, faults, text, *, claims=(), **values):
        print(f"{kind:<8} {text}" + "".join(f"\n  BROKEN: {fault}" for fault in (*faults, *claims)), flush=True)
        self.wrong += faults
        self.claims += claims
        faults = [*faults, *claims]
        row = {"suite": "processes", "kind": kind, **values, "gpu": self.gpu, "gpus": self.num_gpus,
               "result": "failed" if faults else "passed", "faults": faults, "date": now(),
               "run": os.environ.get("COMET_RUN", "by hand"),
               "commit": os.environ.get("COMET_COMMIT", "unknown"),
               "evidence": os.environ.get("COMET_EVIDENCE", "unknown")}
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def environment(puts=False):
    return {**os.environ, **({"COMET_FORCE_PUTS": "1"} if puts else {})}


def run(command, puts=False):
    """Output of a command; a text that begins with "exit" if it failed."""
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environment(puts), timeout=300)
    return done.stdout if done.returncode == 0 else f"exit {done.returncode}: {done.stdout[-600:]}"


def launch(comet, ranks, gpus, *flags):
    """The command that starts so many processes; a subcommand is to follow."""
    return [comet, "launch", "--ranks", str(ranks), "--gpus", str(gpus), *flags, "--"]


def shown(command):
    return " ".join(["comet", *map(str, command[1:])])


def check_bits(comet, report, flags):
    cases = flags.cases
    for ranks in flags.ranks:
        check = ["check", "--backend", "cuda", "--random", str(cases), "--seed", "3", "--json"]
        local = run([comet, *check, "--world", f"local:{ranks}"])
        for puts in (False, True) if ranks > 1 else (False,):
            command = [*launch(comet, ranks, flags.gpus), *check]
            got = run(command, puts)
            faults = [text for text in (local, got) if text.startswith("exit")]
            values = {}
            if not faults:
                values = json.loads(got.splitlines()[-1])
                wanted = json.loads(local.splitlines()[-1])
                if values["outputs"] != wanted["outputs"] or values["failures"]:
                    faults = [f"outputs {values['outputs']}, of threads {wanted['outputs']}; "
                              f"failures {values['failures']}"]
                wanted_world = "nvshmem-puts" if puts else "nvshmem"
                if values["world"] != wanted_world:
                    faults.append(f"world {values['world']}, wanted {wanted_world}")
            report.add("bits", faults, f"{ranks} ranks on {flags.gpus} GPUs{', puts forced' if puts else ''}: "
                       f"{cases} cases, {values.get('calls')} calls, outputs {values.get('outputs')} as of "
                       "threads",
                       ranks=ranks, puts_forced=puts, cases=cases, calls=values.get("calls"),
                       command=shown(command))


def bench_rows(command):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        text = run([*command, "--json", str(path)])
        if text.startswith("exit"):
            return text
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def choice_of(rows):
    """What comet was tuned to, as --choices takes it."""
    row = next(row for row in rows if row["schedule"] == "comet")
    waves = f":{row['waves']}" if row.get("waves") else ""
    return f"{row['groups']}:{row['panel']}:{row['n_c_dispatch']}/{row['n_c_combine']}:{row['communication']}{waves}"


def least(runs, key):
    """Of each schedule, over all runs."""
    return {row["schedule"]: min(other[key] for rows in runs for other in rows if other["schedule"] == row["schedule"])
            for row in runs[0]}


def check_times(comet, report, flags):
    ranks = max(flags.ranks)
    ratios = []
    for model in MODELS:
        for split in flags.splits or (f"{ranks}x1", f"1x{ranks}"):
            for link in flags.links or (LINK if ranks > flags.gpus else "native",):
                ep, tp = split.split("x")
                bench = ["bench", "--model", model, "--tokens", "8192", "--ep", ep, "--tp", tp, "--backend",
                         "cuda", "--dtype", "bf16", "--link", link, "--schedules", "sequential,comet"]
                threads = [comet, *bench, "--world", f"local:{ranks}"]
                launched = [*launch(comet, ranks, flags.gpus), *bench]
                tuned = bench_rows(threads)
                choice, runs = None, [tuned]
                if not isinstance(tuned, str):
                    choice = choice_of(tuned)
                    launched += ["--choices", choice]
                    runs = [bench_rows(command) for _ in range(RUNS)
                            for command in ([*threads, "--choices", choice], launched)]
                faults = [text for text in runs if isinstance(text, str)]
                claims, values = [], {}
                if not faults:
                    worlds = (runs[0::2], runs[1::2])  # threads, processes
                    local, own = (least(part, "t_layer_us") for part in worlds)
                    over = {name: own[name] / local[name] for name in own}
                    ratios.append(over["comet"])
                    if over["comet"] > OVER_LOCAL:
                        claims = [f"{model} {split} {link}: comet takes {over['comet']:.3f} of the time on "
                                  f"threads, allowed {OVER_LOCAL}"]
                    # Of the products alone: what the GPU does, and not the world.
                    compute = [min(least(part, "t_compute_us").values()) for part in worlds]
                    values = {"t_local_us": local, "t_layer_us": own, "over_local": over,
                              "t_compute_local_us": compute[0], "t_compute_us": compute[1], "runs": RUNS}
                text = f"{model} {split} {link}"
                if values:
                    text += f"; products {compute[1] / compute[0]:.3f} of threads'"
                    text += "".join(f"; {name} {own[name] / 1000:.2f} ms, {over[name]:.3f} of threads'"
                                    for name in own)
                report.add("times", faults, text, claims=claims, model=model, split=split, link=link,
                           tokens=8192, ranks=ranks, choice=choice, command=shown(launched), **values)
    if ratios:
        print(f"times: {len(ratios)} cases, comet over threads' time: geometric mean "
              f"{statistics.geometric_mean(ratios):.3f}, most {max(ratios):.3f}", flush=True)


def processes_named(*names):
    """Numbers of running processes of these names, and their parents."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:  # it has ended
            continue
        state, parent = rest.split()[:2]
        if name.startswith(names) and state != "Z":
            found[int(folder.name)] = int(parent)
    return found


def rank_in_mpi(pid):
    """What mpirun has told a process; -1 if somebody else has started it."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return -1
    ranks = [int(text.split(b"=")[1]) for text in variables if text.startswith(b"OMPI_COMM_WORLD_RANK=")]
    return ranks[0] if ranks else -1


def ranks_of(starter):
    """Process numbers in the order of ranks: as comet launch has started them, or as mpirun says."""
    ranks = [pid for pid, parent in processes_named("comet").items() if parent == starter]
    return sorted(ranks, key=lambda pid: (rank_in_mpi(pid), pid))


def wait_until(condition, seconds):
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def is_named(output, victim, how):
    """Whether a rank is said to be why the others ended; others may wait for one that waits for it."""
    if how == signal.SIGKILL or " is gone" in output:  # as a stopped one is to other hosts
        return f"rank {victim} is gone" in output
    missing = rf"cause: rank {victim}\b" if "cause: " in output else rf"for ranks? [0-9, ]*\b{victim}\b"
    return re.search(missing, output) is not None


def fail_one(command, ranks, victim, how, seconds):
    """Faults of a command that starts ranks, of which one is killed or stopped `seconds` after its start,
    and how long the other ranks took to end."""
    starter = Path(command[0]).name
    variables = {**os.environ, "COMET_TIMEOUT_MS": str(TIMEOUT_MS), "OMPI_ALLOW_RUN_AS_ROOT": "1",
                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # What libraries say of a peer that dies need not be text.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                          errors="backslashreplace", env=variables) as running:
        if not wait_until(lambda: len(ranks_of(running.pid)) == ranks, START_SECONDS):
            running.kill()
            return ["ranks did not start"], 0.0
        time.sleep(seconds)
        started = ranks_of(running.pid)
        if len(started) < ranks:
            running.kill()
            return ["ranks ended by themselves"], 0.0
        failed = started[victim]
        os.kill(failed, how)
        failed_at = time.monotonic()
        wait_until(lambda: not set(ranks_of(running.pid)) - {failed}, START_SECONDS)
        took = time.monotonic() - failed_at
        try:
            output, _ = running.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            return [f"{starter} did not end"], START_SECONDS
    for line in output.splitlines():
        if "\\x" in line:
            print(f"said by ranks, not in UTF-8: {line[:400]}")
    faults = []
    if running.returncode == 0:
        faults.append(f"{starter} ended with 0")
    if took > SECONDS_LEFT:
        faults.append(f"the others ended {took:.1f} s later, allowed {SECONDS_LEFT:.0f}")
    if not is_named(output, victim, how):
        faults.append(f"rank {victim} is not named: {output[-400:]}")
    return faults, took


def is_of_this_run(pid):
    """Whether this program has started the process, by whatever ways: it inherits RUN."""
    try:
        return f"{RUN}={os.getpid()}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False


def find_left():
    """What is left of ranks that have ended, as faults."""
    faults = []
    left = sorted(filter(is_of_this_run, processes_named("comet", "nvidia-cuda-mps")))
    if left:
        faults.append(f"processes {left} are left")
    folders = list(Path(tempfile.gettempdir()).glob("comet-mps-*"))
    if folders:
        faults.append(f"{folders} are left")
    return faults


def by_launch(comet, ranks, gpus):
    return [*launch(comet, ranks, gpus), *CHECK]


def by_mpirun(comet, ranks):
    return ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), comet, *CHECK]


def fail_launched(comet, ranks, gpus, *how):
    faults, took = fail_one(by_launch(comet, ranks, gpus), ranks, *how)
    return faults + find_left(), took


def fail_under_mpirun(comet, ranks, gpus, *how):
    """MPS, which comet launch would have started, is started here: without it the world refuses ranks that
    share a GPU, since their kernels would take turns."""
    try:
        with private_mps() if ranks > gpus else contextlib.nullcontext():
            faults, took = fail_one(by_mpirun(comet, ranks), ranks, *how)
    except ValueError as error:
        return [str(error)], 0.0
    return faults + find_left(), took


def check_failures(comet, report, flags, kind, count, fail):
    """Lets `count` ranks fail, one a start, by `fail`."""
    rng = random.Random(7)
    how = signal.SIGSTOP if kind == "stop" else signal.SIGKILL
    # From the first meeting to the middle of calls; nobody waits for a stopped rank that has not met, and
    # before ranks have met mpirun alone knows who has died.
    earliest, latest = {"kill": (0.0, 4.0), "stop": (3.0, 5.0), "mpi_kill": (4.0, 6.0)}[kind]
    times = []
    all_faults = []
    counts = [ranks for ranks in flags.ranks if ranks > 1]
    for _ in range(count if counts else 0):
        ranks = rng.choice(counts)
        victim = rng.randrange(ranks)
        seconds = rng.uniform(earliest, latest)
        faults, took = fail(comet, ranks, flags.gpus, victim, how, seconds)
        all_faults += [f"{kind} of rank {victim} of {ranks} after {seconds:.2f} s: {fault}" for fault in faults]
        times.append(took)
    if times:
        report.add(kind, all_faults, f"{count} ranks: the rest ended within {max(times):.2f} s, median "
                   f"{statistics.median(times):.2f}", count=count, most_seconds=max(times),
                   timeout_ms=TIMEOUT_MS)


def mpirun_lack(info):
    """Why mpirun cannot start ranks here, and how to get it; empty if it can."""
    if shutil.which("mpirun") is None:
        return "no mpirun on PATH: apt-get install openmpi-bin gets it, as Open MPI 4"
    mpi = next(world for world in info["worlds"] if world["name"] == "mpi")
    return "" if mpi["built"] else mpi["detail"]


def check_mpirun(comet, report, flags, info):
    if flags.mpi_kills == 0:
        return
    lack = mpirun_lack(info)
    if lack:
        report.add("mpi_kill", [], f"skipped: {lack}", count=0, skipped=lack)
    else:
        check_failures(comet, report, flags, "mpi_kill", flags.mpi_kills, fail_under_mpirun)


def words(text):
    return text.split(",")


def numbers(text):
    found = [int(word) for word in words(text)]
    if min(found) < 1:
        raise ValueError
    return found


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", type=Path, required=True, help="the command, built with CUDA and NVSHMEM")
    parser.add_argument("--check", action="store_true",
                        help=f"exit 1 if anything is wrong, {CLAIMS_BROKEN} if only a claim about times does not hold")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that ranks spread over (default 1)")
    parser.add_argument("--ranks", type=numbers, default=RANKS,
                        help="how many, with commas between; the most are those of the times (default 1,2,8)")
    parser.add_argument("--cases", type=int, default=10, help="random cases of each world (default 10)")
    parser.add_argument("--kills", type=int, default=4, help="ranks to kill (default 4)")
    parser.add_argument("--mpi-kills", type=int, default=3,
                        help="ranks to kill that mpirun has started (default 3)")
    parser.add_argument("--stops", type=int, default=1, help="ranks to stop (default 1)")
    parser.add_argument("--splits", type=words, help="EP x TP of the times (default: all EP, all TP)")
    parser.add_argument("--links", type=words,
                        help=f"links of the times (default native, {LINK} where ranks share GPUs)")
    parser.add_argument("--no-times", action="store_true", help="leave the times out")
    flags = parser.parse_args()
    if flags.gpus < 1:
        parser.error(f"--gpus: {flags.gpus}, from 1")
    return flags


def main():
    flags = read_flags()
    # Threads get no more GPUs than processes do.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(flags.gpus)) if visible is None else visible.split(",")[:flags.gpus]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    os.environ[RUN] = str(os.getpid())
    comet = str(flags.comet.resolve())
    info = json.loads(run([comet, "info", "--json"]))
    gpus = info["machine"]["gpus"]
    nvshmem = next(world for world in info["worlds"] if world["name"] == "nvshmem")
    if not gpus or not nvshmem["built"]:
        sys.exit(f"process_worlds: no GPU, or no world nvshmem: {nvshmem['detail']}")
    if len(gpus) < flags.gpus:
        sys.exit(f"process_worlds: --gpus {flags.gpus}, {len(gpus)} are seen")
    report = Report(gpus[0]["name"], flags.gpus)
    check_bits(comet, report, flags)
    check_failures(comet, report, flags, "kill", flags.kills, fail_launched)
    check_failures(comet, report, flags, "stop", flags.stops, fail_launched)
    check_mpirun(comet, report, flags, info)
    if not flags.no_times:
        check_times(comet, report, flags)
    print(f"process_worlds: {len(report.wrong)} faults, {len(report.claims)} claims broken"
          if report.wrong or report.claims else "process_worlds: all hold")
    if not flags.check:
        return 0
    return 1 if report.wrong else CLAIMS_BROKEN if report.claims else 0


if __name__ == "__main__":
    sys.exit(main())
