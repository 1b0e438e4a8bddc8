#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claim: Comet's grouped GEMM on a Hopper GPU reaches at least 0.97 (geometric mean) of the better of
torch._grouped_mm and a loop of cuBLAS products, none under 0.90; the first GEMM with its activation
reaches 1.03 of theirs followed by a fused activation kernel.

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

# model: experts, top-k, H, I
MODELS = {
    "mixtral-8x7b": (8, 2, 4096, 14336),
    "qwen2-moe-2.7b": (64, 4, 2048, 1408),
    "phi-3.5-moe": (16, 2, 4096, 6400),
}
TOKENS = 16384  # of all 8 ranks together
ROUNDS = 7


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


class Library:
    """libcomet_gemm.so."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path.resolve()))
        self.lib.comet_gemm_error.restype = ctypes.c_char_p
        self.block_m = self.lib.comet_gemm_block_m()

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.lib.comet_gemm_error().decode())

    def create(self, experts, slots, k, n, gated, a, w, c):
        handle = ctypes.c_void_p()
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        self.check(self.lib.comet_gemm_create(
            number(experts), number(slots), number(k), number(n), int(gated),
            pointer(a.data_ptr()), pointer(w.data_ptr()), pointer(c.data_ptr()),
            ctypes.byref(handle)))
        return handle

    def launch(self, handle, tiles, count, blocks):
        pointer = ctypes.c_void_p
        self.check(self.lib.comet_gemm_launch(
            handle, pointer(tiles.data_ptr()), pointer(count.data_ptr()), blocks,
            pointer(torch.cuda.current_stream().cuda_stream)))

    def destroy(self, handle):
        self.lib.comet_gemm_destroy(handle)


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
        block = library.block_m
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
        self.count = torch.tensor([len(tiles)], dtype=torch.int32, device="cuda")
        self.blocks = torch.cuda.get_device_properties(0).multi_processor_count
        self.handle = library.create(experts, padded, k, n, gated, self.a, self.w, self.c)
        ends = torch.tensor(rows).cumsum(0)
        self.offsets = ends.to(torch.int32).cuda()
        self.ranges = [(int(e) - r, int(e)) for e, r in zip(ends, rows)]
        self.wt = self.w.transpose(1, 2)
        self.fused = torch.empty(sum(rows), columns, device="cuda", dtype=torch.bfloat16)
        self.out = torch.empty(sum(rows), n, device="cuda", dtype=torch.bfloat16)

    def comet(self):
        self.library.launch(self.handle, self.tiles, self.count, self.blocks)

    def finish(self, fused):
        if self.gated:
            silu_mul(fused, self.out)
            return self.out
        return fused

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True, help="libcomet_gemm.so")
    parser.add_argument("--check", action="store_true", help="exit 1 if the claim does not hold")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    library = Library(arguments.library)
    device = torch.cuda.get_device_name()
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
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
                "tflops": round(tflops, 1), "ratio": round(ratio, 4), "rounds": ROUNDS,
                "result": "passed", "gpu": device, "date": date,
                "run": os.environ.get("COMET_RUN", date),
                "commit": os.environ.get("COMET_COMMIT", "unknown"),
                "evidence": os.environ.get("COMET_EVIDENCE", "unknown"),
                "command": "gemm_rates.py --library libcomet_gemm.so",
            })
            del problem
            torch.cuda.empty_cache()
    means = {kind: statistics.geometric_mean(values) for kind, values in ratios.items()}
    for kind, goal in (("gemm", 0.97), ("gemm_act", 1.03)):
        print(f"{kind}: geometric mean {means[kind]:.3f} (claim {goal}), least {min(ratios[kind]):.3f}")
    path = os.environ.get("COMET_ROWS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows_out)
    holds = means["gemm"] >= 0.97 and min(ratios["gemm"]) >= 0.90 and means["gemm_act"] >= 1.03
    return 1 if arguments.check and not holds else 0


if __name__ == "__main__":
    sys.exit(main())
