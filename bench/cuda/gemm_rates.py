#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claim: Comet's grouped GEMM on a Hopper GPU reaches at least 0.97 (geometric mean) of the better of
torch._grouped_mm and a loop of cuBLAS products, none under 0.90; the first GEMM with its activation
reaches 1.03 of theirs followed by a fused activation kernel. A partition of 16 multiprocessors, with
7 others at work beside it, reaches 0.9 of an eighth of the whole GPU's rate (--partitions).

Times all in one run, interleaved round by round, and prints a table; appends a JSON row per case to
the file that COMET_ROWS names, if any. Every result is compared with PyTorch's before it is timed.
"""

import argparse
import ctypes
import datetime
import json
import math
import os
import random
import statistics
import sys
from pathlib import Path

import torch
import triton
import triton.language as tl
from overlap_grid import CLAIMS_BROKEN

# model: experts, top-k, H, I
MODELS = {
    "mixtral-8x7b": (8, 2, 4096, 14336),
    "qwen2-moe-2.7b": (64, 4, 2048, 1408),
    "phi-3.5-moe": (16, 2, 4096, 6400),
}
TOKENS = 16384  # of all 8 ranks together
ROUNDS = 7
BLOCK_M = 128  # rows of a tile
PARTITIONS, MULTIPROCESSORS = 8, 16  # of each partition
PARTITION_TOKENS = 8192  # of all 8 ranks together


@triton.jit
def silu_mul_kernel(fused, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < columns
    gate = tl.load(fused + row * 2 * columns + column, mask=mask).to(tl.float32)
    up = tl.load(fused + row * 2 * columns + columns + column, mask=mask).to(tl.float32)
    tl.store(out + row * columns + column, (gate * tl.sigmoid(gate) * up).to(tl.bfloat16), mask=mask)


def silu_mul(fused, out):
    columns = out.shape[1]
    silu_mul_kernel[(out.shape[0], triton.cdiv(columns, 1024))](fused, out, columns, BLOCK=1024)


class Work(ctypes.Structure):
    """struct comet_gemm_work."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("handle", "tiles", "tile_range")]


class Library:
    """libcomet_gemm.so."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path.resolve()))
        self.lib.comet_gemm_error.restype = ctypes.c_char_p

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.lib.comet_gemm_error().decode())

    def create(self, experts, slots, k, n, gated, a, w, c):
        handle = ctypes.c_void_p()
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        self.check(self.lib.comet_gemm_create(
            number(experts), ctypes.c_int32(BLOCK_M), number(slots), number(k), number(n), int(gated),
            pointer(a.data_ptr()), pointer(w.data_ptr()), pointer(c.data_ptr()),
            ctypes.byref(handle)))
        return handle

    def launch(self, handle, tiles, tile_range, blocks):
        pointer = ctypes.c_void_p
        self.check(self.lib.comet_gemm_launch(
            handle, pointer(tiles.data_ptr()), pointer(tile_range.data_ptr()), blocks,
            pointer(torch.cuda.current_stream().cuda_stream)))

    def destroy(self, handle):
        self.lib.comet_gemm_destroy(handle)

    def create_partitions(self):
        handle = ctypes.c_void_p()
        self.check(self.lib.comet_gemm_partitions_create(
            PARTITIONS, MULTIPROCESSORS, ctypes.byref(handle)))
        return handle

    def run_partitions(self, handle, works):
        self.check(self.lib.comet_gemm_partitions_run(handle, works, len(works)))

    def time_partitions(self, handle, works, repetitions):
        """Microseconds of all works on the whole GPU one by one, and on the partitions at once."""
        whole, together = ctypes.c_float(), ctypes.c_float()
        self.check(self.lib.comet_gemm_partitions_time(
            handle, works, len(works), repetitions, ctypes.byref(whole), ctypes.byref(together)))
        return whole.value, together.value

    def destroy_partitions(self, handle):
        self.lib.comet_gemm_partitions_destroy(handle)


def split_rows(total, experts, routing, seed=1):
    """Rows of each expert: equal, or in proportion to 1 / rank of the expert in a random order."""
    if routing == "uniform":
        shares = [1.0] * experts
    else:
        shares = [1.0 / (i + 1) for i in range(experts)]
        random.Random(seed).shuffle(shares)
    whole = sum(shares)
    rows = [int(total * share / whole) for share in shares]
    rows[rows.index(max(rows))] += total - sum(rows)
    return rows


def cases():
    for model, (experts, topk, hidden, inter) in MODELS.items():
        rows = TOKENS * topk
        # EP8: an eighth of the experts with an eighth of the rows; TP8: all with all, I / 8.
        for split, local, share, local_inter in (("ep8", max(experts // 8, 1), rows // 8, inter),
                                                 ("tp8", experts, rows, inter // 8)):
            for routing in ("uniform", "skewed"):
                if routing == "skewed" and local == 1:
                    continue
                yield model, split, routing, local, share, hidden, local_inter


def time_us(function, launches):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(launches):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1000 / launches


def measure(functions):
    """Median microseconds of each function, rounds interleaved, order rotating."""
    for function in functions:
        function()
    torch.cuda.synchronize()
    rough = max(time_us(function, 2) for function in functions)
    launches = max(3, min(40, int(4000 / rough)))
    times = [[] for _ in functions]
    for r in range(ROUNDS):
        for i in range(len(functions)):
            at = (i + r) % len(functions)
            times[at].append(time_us(functions[at], launches))
    return [statistics.median(t) for t in times]


class Problem:
    """One grouped product: rows padded to whole tiles for Comet, packed for the others."""

    def __init__(self, library, rows, k, n, gated):
        self.library, self.gated, self.n = library, gated, n
        block = BLOCK_M
        experts = len(rows)
        tiles, slots_of = [], []
        for expert, count in enumerate(rows):
            for row in range(0, count, block):
                slots_of.append(torch.arange(min(block, count - row)) + len(tiles) * block)
                tiles.append([0, expert, min(block, count - row), 0, 0])
        self.slots = torch.cat(slots_of).cuda()
        padded = len(tiles) * block
        columns = 2 * n if gated else n
        self.packed = torch.randn(sum(rows), k, device="cuda").bfloat16()
        self.a = torch.zeros(padded, k, device="cuda", dtype=torch.bfloat16)
        self.a[self.slots] = self.packed
        self.w = (torch.randn(experts, columns, k, device="cuda") / math.sqrt(k)).bfloat16()
        self.c = torch.zeros(padded, n, device="cuda", dtype=torch.bfloat16)
        self.tiles = torch.tensor(tiles, dtype=torch.int32, device="cuda")
        self.range = torch.tensor([0, len(tiles)], dtype=torch.int32, device="cuda")
        self.blocks = torch.cuda.get_device_properties(0).multi_processor_count
        self.handle = library.create(experts, padded, k, n, gated, self.a, self.w, self.c)
        ends = torch.tensor(rows).cumsum(0)
        self.offsets = ends.to(torch.int32).cuda()
        self.ranges = [(int(e) - r, int(e)) for e, r in zip(ends, rows)]
        self.wt = self.w.transpose(1, 2)
        self.fused = torch.empty(sum(rows), columns, device="cuda", dtype=torch.bfloat16)
        self.out = torch.empty(sum(rows), n, device="cuda", dtype=torch.bfloat16)

    def comet(self):
        self.library.launch(self.handle, self.tiles, self.range, self.blocks)

    def finish(self, fused):
        if self.gated:
            silu_mul(fused, self.out)
            return self.out
        return fused

    def work(self):
        return Work(self.handle, self.tiles.data_ptr(), self.range.data_ptr())

    def grouped(self):
        return self.finish(torch._grouped_mm(self.packed, self.wt, offs=self.offsets))

    def loop(self):
        for expert, (begin, end) in enumerate(self.ranges):
            if end > begin:
                torch.mm(self.packed[begin:end], self.wt[expert], out=self.fused[begin:end])
        return self.finish(self.fused)

    def check(self):
        self.comet()
        expected = self.grouped().float()
        got = self.c[self.slots].float()
        worst = (got - expected).abs().max().item()
        limit = 2**-6 * expected.abs().max().item()
        if not worst <= limit:
            raise RuntimeError(f"result is off by {worst}, allowed {limit}")

    def close(self):
        self.library.destroy(self.handle)


def provenance(options=""):
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "result": "passed", "gpu": torch.cuda.get_device_name(), "date": date,
        "run": os.environ.get("COMET_RUN", date),
        "commit": os.environ.get("COMET_COMMIT", "unknown"),
        "evidence": os.environ.get("COMET_EVIDENCE", "unknown"),
        "command": "gemm_rates.py --library libcomet_gemm.so" + options,
    }


def measure_rates(library):
    """Comet beside PyTorch and cuBLAS: rows, and whether the claims hold."""
    origin = provenance()
    ratios = {"gemm": [], "gemm_act": []}
    rows_out = []
    print(f"{'case':<44}{'comet':>9}{'grouped':>9}{'cuBLAS':>9}  us{'TFLOP/s':>9}{'ratio':>8}")
    for model, split, routing, experts, total, hidden, inter in cases():
        rows = split_rows(total, experts, routing)
        for kind, name, k, n, gated in (("gemm", "w13", hidden, 2 * inter, False),
                                        ("gemm", "w2", inter, hidden, False),
                                        ("gemm_act", "w13", hidden, inter, True)):
            problem = Problem(library, rows, k, n, gated)
            problem.check()
            ours, grouped, loop = measure([problem.comet, problem.grouped, problem.loop])
            problem.close()
            ratio = min(grouped, loop) / ours
            ratios[kind].append(ratio)
            tflops = 2 * total * k * n * (2 if gated else 1) / ours / 1e6
            label = f"{model} {split} {routing} {name}{' act' if gated else ''}"
            print(f"{label:<44}{ours:9.1f}{grouped:9.1f}{loop:9.1f}    {tflops:9.0f}{ratio:8.3f}",
                  flush=True)
            rows_out.append({
                "suite": "gemm", "kind": kind, "model": model,
                "shape": {"experts": experts, "rows": total, "k": k, "n": n, "gated": gated},
                "routing": routing, "split": split, "product": name, "t_us": round(ours, 2),
                "t_torch_us": round(grouped, 2), "t_cublas_us": round(loop, 2),
                "tflops": round(tflops, 1), "ratio": round(ratio, 4), "rounds": ROUNDS, **origin,
            })
            del problem
            torch.cuda.empty_cache()
    means = {kind: statistics.geometric_mean(values) for kind, values in ratios.items()}
    for kind, goal in (("gemm", 0.97), ("gemm_act", 1.03)):
        print(f"{kind}: geometric mean {means[kind]:.3f} (claim {goal}), least {min(ratios[kind]):.3f}")
    holds = means["gemm"] >= 0.97 and min(ratios["gemm"]) >= 0.90 and means["gemm_act"] >= 1.03
    return rows_out, holds


def time_partitions(library, partitions, problems):
    """Median microseconds on the whole GPU and on the partitions, after comparing the results."""
    for problem in problems:
        problem.check()
    expected = [problem.c.clone() for problem in problems]
    for problem in problems:
        problem.c.zero_()
    torch.cuda.synchronize()
    works = (Work * len(problems))(*(problem.work() for problem in problems))
    library.run_partitions(partitions, works)
    for index, problem in enumerate(problems):
        if not torch.equal(problem.c, expected[index]):
            raise RuntimeError(f"partition {index} gave another result than the whole GPU")
    torch.cuda.synchronize()
    whole, _ = library.time_partitions(partitions, works, 2)
    repetitions = max(2, min(20, int(6000 / whole)))
    times = [library.time_partitions(partitions, works, repetitions) for _ in range(ROUNDS)]
    return [statistics.median(t) for t in zip(*times)]


def measure_partitions(library):
    """One of 8 partitions beside an eighth of the whole GPU: rows, and whether the claim holds."""
    origin = provenance(" --partitions")
    partitions = library.create_partitions()
    rows_out = []
    print(f"{'8 products at once':<44}{'whole':>9}{'parts':>9}  us{'TFLOP/s':>9}{'ratio':>8}")
    for model, (experts, topk, hidden, inter) in MODELS.items():
        experts, total = experts // PARTITIONS, PARTITION_TOKENS * topk // PARTITIONS
        rows = split_rows(total, experts, "uniform")
        for name, k, n, gated in (("w13", hidden, inter, True), ("w2", inter, hidden, False)):
            problems = [Problem(library, rows, k, n, gated) for _ in range(PARTITIONS)]
            whole, together = time_partitions(library, partitions, problems)
            for problem in problems:
                problem.close()
            ratio = whole / together
            tflops = 2 * total * k * n * (2 if gated else 1) / together / 1e6
            label = f"{model} ep8 uniform {name}{' act' if gated else ''}"
            print(f"{label:<44}{whole:9.1f}{together:9.1f}    {tflops:9.1f}{ratio:8.3f}", flush=True)
            rows_out.append({
                "suite": "gemm", "kind": "gemm_partitions", "model": model,
                "shape": {"experts": experts, "rows": total, "k": k, "n": n, "gated": gated},
                "routing": "uniform", "split": "ep8", "product": name,
                "partitions": PARTITIONS, "sms": MULTIPROCESSORS, "t_us": round(together, 2),
                "t_whole_us": round(whole, 2), "tflops": round(tflops, 1),
                "ratio": round(ratio, 4), "rounds": ROUNDS, **origin,
            })
            del problem, problems
            torch.cuda.empty_cache()
    library.destroy_partitions(partitions)
    least = min(row["ratio"] for row in rows_out)
    print(f"gemm_partitions: least {least:.3f} (claim 0.9)")
    return rows_out, least >= 0.9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True, help="libcomet_gemm.so")
    parser.add_argument("--partitions", nargs="?", const="also", choices=("also", "only"),
                        help="measure partitions of the GPU after the rates, or instead of them")
    parser.add_argument("--check", action="store_true", help=f"exit {CLAIMS_BROKEN} if a claim does not hold")
    arguments = parser.parse_args()
    if arguments.partitions:
        # Each partition's stream needs a hardware queue of its own. There are 8, unless more are
        # asked for before the device starts.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    torch.manual_seed(1)
    library = Library(arguments.library)
    measurements = [] if arguments.partitions == "only" else [measure_rates]
    if arguments.partitions:
        measurements.append(measure_partitions)
    all_hold = True
    for measurement in measurements:
        rows, holds = measurement(library)
        all_hold &= holds
        path = os.environ.get("COMET_ROWS")
        if path:
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    return CLAIMS_BROKEN if arguments.check and not all_hold else 0


if __name__ == "__main__":
    sys.exit(main())
