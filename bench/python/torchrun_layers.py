#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A layer whose ranks are processes of torchrun on GPUs: right, and as fast as the command's on such processes.

    torchrun_layers.py --ranks 8 --model mixtral-8x7b --tokens 8192        starts torchrun by itself, then comet launch
    torchrun --nproc-per-node 8 torchrun_layers.py --model mixtral-8x7b    the ranks alone
    torchrun_layers.py --device cpu                                        rehearses, tiny; times mean nothing

Each process joins World.from_torch_distributed(), has its own experts, or slices of them with --tp, and its own tokens.
Rank 0 compares all tokens with a world of one rank. A round is several calls, one after the other, between two moments
of each rank's device; its time is the slowest rank's, by the call, and the median over rounds is told. Beside it stands
the time of `comet launch -- bench` of the same case, launched one by one like these (its own clock, from the first
kernel to the last). --check: exits 1 if results differ, or if the layer takes more than MOST_RATIO times that.

Where there are fewer GPUs than ranks, torchrun is started under an MPS of its own; under a torchrun of yours, start
NVIDIA's MPS before.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from torch import distributed

import comet_moe
from bench_rows import RowFile
from devices import find_device
from mps import private_mps
from torchrun import is_rank, run_limited, start_ranks, take_gpu

SUITE = "python_torchrun"
# E, K, H, I
MODELS = {"mixtral-8x7b": (8, 2, 4096, 14336), "qwen2-moe-2.7b": (64, 4, 2048, 1408),
          "qwen3-moe-30b": (128, 8, 2048, 768)}
TINY = (16, 2, 64, 128)
ALLOWED = {torch.bfloat16: 0.03, torch.float32: 1e-4}  # of the largest element: what results may differ by
CALLS = 5  # of a round
MOST_RATIO = 1.1
LIMIT_S = 170  # of either program
RESULT = "COMET_TORCHRUN_LAYERS_RESULT"  # in the environment of ranks that this program started: where rank 0 writes


class RankLayer:
    """This process's rank of the layer, and its tokens."""

    def __init__(self, flags, device):
        self.flags, self.device = flags, device
        self.rank, self.ranks = distributed.get_rank(), distributed.get_world_size()
        self.tokens = flags.tokens // self.ranks
        self.world = comet_moe.World.from_torch_distributed(backend=device.name)
        w13, w2 = self.weights()
        self.layer = comet_moe.MoeLayer(w13, w2, topk=flags.topk, max_tokens=self.tokens, world=self.world, tp=flags.tp,
                                        num_experts=flags.experts)
        made = torch.Generator(device.device).manual_seed(1000003 + self.rank)
        self.x = torch.randn(self.tokens, flags.hidden, dtype=device.dtype, device=device.device, generator=made)
        logits = torch.randn(self.tokens, flags.experts, device=device.device, generator=made)
        self.topk_weights, self.ids = torch.softmax(logits, -1).topk(flags.topk, -1)

    def expert(self, index):
        """Whole: [gate; up] [2 I, H] and down [H, I], the same in all processes."""
        made = torch.Generator(self.device.device).manual_seed(1 + index)

        def random(rows, columns):
            matrix = torch.randn(rows, columns, dtype=self.device.dtype, device=self.device.device, generator=made)
            return matrix.mul_(columns**-0.5)

        return random(2 * self.flags.inter, self.flags.hidden), random(self.flags.hidden, self.flags.inter)

    def weights(self):
        """This rank's slices of its experts, a matrix each."""
        parts, part = self.ranks // self.flags.tp, self.rank // self.flags.tp
        own = range(self.flags.experts * part // parts, self.flags.experts * (part + 1) // parts)
        first, second = [], []
        for w13, w2 in map(self.expert, own):
            gate, up = (half.chunk(self.flags.tp)[self.rank % self.flags.tp] for half in w13.chunk(2))
            first.append(torch.cat((gate, up)))
            second.append(w2.chunk(self.flags.tp, 1)[self.rank % self.flags.tp].contiguous())
        return first, second

    def run(self):
        return self.layer(self.x, self.ids, self.topk_weights, groups=self.flags.groups)

    def gathered(self, own):
        """All ranks' rows, on rank 0; else None."""
        own = own.cpu()
        parts = [torch.empty_like(own) for _ in range(self.ranks)] if self.rank == 0 else None
        distributed.gather(own, parts)
        return torch.cat(parts).to(self.device.device) if parts else None

    def worst(self):
        """On rank 0: the largest difference to one rank's results, as a share of the largest element; else None."""
        y = self.run()
        self.layer.check()
        x, ids, weights, y = map(self.gathered, (self.x, self.ids, self.topk_weights, y))
        if self.rank > 0:
            return None
        experts = [self.expert(index) for index in range(self.flags.experts)]
        alone = comet_moe.MoeLayer([w13 for w13, _ in experts], [w2 for _, w2 in experts], topk=self.flags.topk,
                                   max_tokens=len(x), world=comet_moe.World.local(1, backend=self.device.name))
        expected = alone(x, ids, weights)
        alone.check()
        worst = (y.float() - expected.float()).abs().max() / expected.float().abs().max()
        return worst.item() if y.isfinite().all() else float("inf")

    def time_rounds(self):
        """Microseconds of a call of each round, of the slowest rank, by the stream and by the layer's own clock."""
        times = []
        for _ in range(3 + self.flags.rounds):
            distributed.barrier()
            time_us, _ = self.device.time_us(lambda: [self.run() for _ in range(CALLS)])
            times.append([time_us / CALLS, self.layer.stats[0]["t_layer_us"]])
        slowest = torch.tensor(times[3:], dtype=torch.float64)
        distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
        return slowest.T.tolist()


def run_rank(flags):
    """What each process of torchrun does; rank 0 has the row in the end."""
    if flags.device == "cuda" and torch.cuda.is_available():
        take_gpu()
    device = find_device(flags.device)
    distributed.init_process_group("gloo")
    check_fits(flags, distributed.get_world_size())
    layer = RankLayer(flags, device)
    worst = layer.worst()
    device.free()
    times, own_times = layer.time_rounds()
    if layer.rank > 0:
        return
    allowed = ALLOWED[device.dtype]
    row = {"kind": "torchrun", "model": flags.model, "tokens": flags.tokens, "hidden": flags.hidden,
           "intermediate": flags.inter, "experts": flags.experts, "topk": flags.topk,
           "dtype": str(device.dtype).removeprefix("torch."), "ep": layer.ranks // flags.tp, "tp": flags.tp,
           "ranks": layer.ranks, "groups": flags.groups, "t_us": round(statistics.median(times), 2),
           "t_min_us": round(min(times), 2), "t_max_us": round(max(times), 2),
           "t_layer_us": round(statistics.median(own_times), 2), "rounds": len(times), "worst": worst, "allowed": allowed,
           "result": "passed" if worst <= allowed else "failed"}
    if RESULT in os.environ:
        Path(os.environ[RESULT]).write_text(json.dumps([device.label, row]), encoding="utf-8")
    else:
        report(flags, device.label, row)


def report(flags, device, row):
    """Writes and prints a row."""
    RowFile(SUITE, device, flags.json or os.environ.get("COMET_ROWS")).append(**row)
    print(f"{row['model']}, {row['tokens']} tokens, EP{row['ep']} x TP{row['tp']}, {row['ranks']} processes: "
          f"{row['t_us']:.1f} us a call ({row['t_min_us']:.1f} to {row['t_max_us']:.1f}), {row['t_layer_us']:.1f} by the "
          f"layer's own clock; off from one rank by {row['worst']:.1e} of the largest element, allowed "
          f"{row['allowed']}", flush=True)


def measure_ranks(flags, path):
    """This program under torchrun: the device's name, and the row."""
    start_ranks(__file__, flags.ranks, sys.argv[1:], {RESULT: str(path)}, LIMIT_S)
    return json.loads(path.read_text(encoding="utf-8"))


def run_command(flags, gpus, path):
    """The layer time that `comet launch` has of the same case, microseconds."""
    on_gpu = gpus > 0
    shape = {"experts": flags.experts, "topk": flags.topk, "hidden": flags.hidden, "intermediate": flags.inter,
             "tokens": flags.tokens, "ep": flags.ranks // flags.tp, "tp": flags.tp, "groups": flags.groups or "auto",
             "backend": flags.device, "dtype": "bf16" if on_gpu else "f32", "rounds": flags.rounds, "schedules": "comet"}
    on_gpus = ["--gpus", str(min(gpus, flags.ranks))] if on_gpu else []
    comet = [flags.comet] if flags.comet else [sys.executable, "-m", "comet_moe.command"]
    arguments = [*comet, "launch", "--ranks", str(flags.ranks), *on_gpus, "--", "bench",
                 *(f"--{name}={value}" for name, value in shape.items()), *(["--no-graphs"] if on_gpu else []),
                 "--json", path]
    run_limited(arguments, "comet launch", {}, LIMIT_S)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return next(row["t_layer_us"] for row in rows if row["schedule"] == "comet")


def check_fits(flags, ranks):
    """Raises ValueError unless the case can be cut for so many ranks."""
    if flags.tp < 1 or ranks % flags.tp != 0 or flags.inter % (8 * flags.tp) != 0:
        raise ValueError(f"--tp: {flags.tp}, it must divide the {ranks} ranks and I = {flags.inter} into multiples of 8")
    if flags.tokens < ranks or flags.tokens % ranks != 0:
        raise ValueError(f"--tokens: {flags.tokens}, a positive multiple of the {ranks} ranks is needed")


def compare(flags):
    """Both programs, one after the other; what does not hold, as sentences."""
    check_fits(flags, flags.ranks)
    on_gpu = flags.device == "cuda"
    gpus = torch.cuda.device_count() if on_gpu else 0  # does not start CUDA
    if on_gpu and gpus == 0:
        raise ValueError("--device: cuda, and PyTorch finds no GPU here; cpu rehearses")
    with tempfile.TemporaryDirectory() as folder:
        with private_mps() if 0 < gpus < flags.ranks else contextlib.nullcontext():
            device, row = measure_ranks(flags, Path(folder) / "row.json")
        there = None
        try:
            if not flags.no_command:
                there = run_command(flags, gpus, Path(folder) / "rows.jsonl")
        finally:  # what was measured stays
            report(flags, device, {**row, "t_command_us": there})
        broken = [] if row["result"] == "passed" else ["results differ from those of one rank"]
        if there is not None:
            ratio = row["t_layer_us"] / there
            print(f"comet launch: {there:.1f} us; comet_moe takes {ratio:.2f} times as long by the layer's clock, "
                  f"{row['t_us'] / there:.2f} by the stream's")
            if ratio > MOST_RATIO:
                broken.append(f"comet_moe takes {ratio:.2f} times the command's time, at most {MOST_RATIO} is claimed")
    return broken


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if results differ or the layer is too slow")
    parser.add_argument("--ranks", type=int, default=8, help="where torchrun has not started them (%(default)s)")
    parser.add_argument("--model", choices=list(MODELS), default="mixtral-8x7b", help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=8192, help="of all ranks together; default: %(default)s")
    parser.add_argument("--tp", type=int, default=1, help="slices of each expert; default: %(default)s")
    parser.add_argument("--groups", type=int, default=1, help="0 chooses; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", metavar="FILE", help="append the row; default: the file that COMET_ROWS names")
    parser.add_argument("--comet", metavar="PATH", help="the command to compare with; default: the package's")
    parser.add_argument("--no-command", action="store_true", help="do not run the command")
    flags = parser.parse_args()
    if flags.rounds < 1 or flags.ranks < 1:
        parser.error(f"--rounds {flags.rounds}, --ranks {flags.ranks}: from 1")
    sizes = MODELS[flags.model] if flags.device == "cuda" else TINY
    flags.experts, flags.topk, flags.hidden, flags.inter = sizes
    return flags


def main():
    flags = read_flags()
    try:
        if is_rank():
            run_rank(flags)
            return 0
        broken = compare(flags)
    except (ValueError, comet_moe.CometError) as error:
        print(f"torchrun_layers: {error}", file=sys.stderr, flush=True)
        return 1
    for sentence in broken:
        print("does not hold:", sentence)
    return 1 if broken and flags.check else 0


if __name__ == "__main__":
    sys.exit(main())
