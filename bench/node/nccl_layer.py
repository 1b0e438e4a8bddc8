#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Comet is compared with on a node: an MoE layer over its GPUs, by NCCL and torch._grouped_mm.

The layer is that of a framework without overlap, with no copy and no wait that it can do without. Over
EP: token copies are sorted by expert, counts and then rows go by all-to-all, products run over the
rank's experts, and rows come back and are summed by their weights. Over TP: tokens are gathered before,
and the sums are reduced and scattered after it. Rank r has the experts of EP index r / TP and slice
r % TP of I. Every rank has T / ranks tokens.

The all-to-all of rows needs its sizes on the host: that one wait per call is charged. Without EP there
is none, and the timed calls are replays of a CUDA graph ("graph": true).

t_layer_us is the median over the rounds of a call's time on the slowest rank, and its spread the slowest
minus the fastest round. A call's stream is held until all ranks have queued it, as Comet's is.
t_communication_us is the median over calls without a graph of the time inside of all collectives, on the
rank where they take longest. Waiting for a slower peer inside of a collective counts in it. Each case is
compared with a dense reference in float32 before it is timed.

Prints a line per case and appends a row of suite "node" to --json or the file that COMET_ROWS names, if
any. With --device cpu it rehearses itself over gloo; times then mean nothing.
"""

import argparse
import datetime
import json
import os
import socket
import statistics
import sys
import tempfile
import traceback

try:
    import torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from nccl_cases import MODELS, TOKENS, Failure, Job, count_ranks, make_cases
    from nccl_measure import measure
    from nccl_rank import Rank, Weights
except ImportError as missing:
    sys.exit(f"nccl_layer: the Python module {missing.name} is not there, or does not load: {missing}")


def make_row(case, job, times, communication, graph):
    layer_us, communication_us = statistics.median(times), statistics.median(communication)
    cuda = job.device == "cuda"
    command = (f"nccl_layer.py --gpus {case.ranks} --models {case.model}:{case.topk} --tokens {case.tokens} "
               f"--splits {case.ep}x{case.tp} --rounds {job.rounds}")
    return {
        "suite": "node", "kind": "nccl", "model": case.model, "tokens": case.tokens,
        "experts": case.experts, "topk": case.topk, "hidden": case.hidden,
        "intermediate": case.inter, "ep": case.ep, "tp": case.tp, "ranks": case.ranks,
        "dtype": "bf16", "routing": "uniform", "schedule": "nccl",
        "t_layer_us": round(layer_us, 2), "t_layer_spread_us": round(max(times) - min(times), 2),
        "t_communication_us": round(communication_us, 2),
        "communication_share": round(communication_us / layer_us, 4), "graph": graph,
        "torch": torch.__version__,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "command": command + ("" if job.graphs else " --no-graphs") + ("" if cuda else " --device cpu"),
        "date": now(), "run": job.run, "commit": os.environ.get("COMET_COMMIT", "unknown"),
        "result": "passed",
    }


def report(row, path):
    print(f"{row['model']:<15} top-{row['topk']} {row['tokens']:>6} {row['ep']}x{row['tp']}"
          f" | ms: layer {row['t_layer_us'] / 1000:8.3f} (spread {row['t_layer_spread_us'] / 1000:.3f})"
          f" communication {row['t_communication_us'] / 1000:8.3f}, {row['communication_share']:.2f} of it"
          f"{' | graph' if row['graph'] else ''}", flush=True)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def work(number, job):
    """What one rank does."""
    rank = Rank(number, job)
    weights, weights_of = None, None
    for case in job.cases:
        if weights_of != (case.model, case.split):
            weights = None  # Gone before the next are made.
            weights, weights_of = Weights(case, rank), (case.model, case.split)
        measured = measure(case, rank, weights, job)
        if rank.device.type == "cuda":
            torch.cuda.empty_cache()
        if number == 0:
            report(make_row(case, job, *measured), job.path)
    dist.destroy_process_group()


def guarded_work(number, job):
    """work(), but a rank that fails writes why to the folder and ends at once: an orderly end may wait for
    peers."""
    try:
        work(number, job)
    except Exception as error:
        text = f"nccl_layer: {error}\n"
        if not isinstance(error, Failure):
            first = (str(error).splitlines() or [""])[0]
            text = traceback.format_exc() + f"nccl_layer: rank {number}: {type(error).__name__}: {first}\n"
        with open(os.path.join(job.folder, str(number)), "w", encoding="utf-8") as file:
            file.write(text)
        os._exit(1)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ranks(job):
    """A process per rank. The first that fails ends all."""
    context = mp.spawn(guarded_work, (job,), nprocs=job.ranks, join=False)
    try:
        while not context.join(grace_period=1):
            pass
    except mp.ProcessExitedException as ended:
        path = os.path.join(job.folder, str(ended.error_index))
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                sys.stderr.write(file.read())
        else:
            how = ended.signal_name or f"exit status {ended.exit_code}"
            sys.stderr.write(f"nccl_layer: rank {ended.error_index} ended with {how}\n")
        return 1
    return 0


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, help="ranks, one on each GPU; default all")
    for flag, default in (("models", MODELS), ("tokens", map(str, TOKENS))):
        default = list(default)
        parser.add_argument(f"--{flag}", type=words, default=default,
                            help=f"with commas between; default {','.join(default)}")
    parser.add_argument("--splits", default="auto",
                        help="EPxTP with commas between; default auto, all that fit a model")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of a case; default 7")
    parser.add_argument("--json", help="file to append rows to; default the one COMET_ROWS names")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--no-graphs", action="store_true", help="launch every timed call anew")
    arguments = parser.parse_args()
    # NVLink multicast stays off: on a host that others share it can put all GPUs out of service.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    try:
        ranks = count_ranks(arguments.device, arguments.gpus)
        if arguments.rounds < 1:
            raise Failure(f"--rounds: {arguments.rounds}, allowed are 1 and more")
        cases = make_cases(arguments.models, arguments.tokens, arguments.splits, ranks)
        with tempfile.TemporaryDirectory() as folder:
            return run_ranks(Job(
                device=arguments.device, ranks=ranks, port=free_port(), cases=cases,
                rounds=arguments.rounds, graphs=not arguments.no_graphs,
                path=arguments.json or os.environ.get("COMET_ROWS"),
                run=os.environ.get("COMET_RUN", now()), folder=folder))
    except Failure as failure:
        sys.stderr.write(f"nccl_layer: {failure}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
