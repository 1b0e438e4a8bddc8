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
import dataclasses
import datetime
import json
import math
import os
import socket
import statistics
import sys
import tempfile
import time
import traceback

try:
    import torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    import triton
    import triton.language as tl
except ImportError as missing:
    sys.exit(f"nccl_layer: the Python module {missing.name} is not there, or does not load: {missing}")

# model: experts, top-k, H, I
MODELS = {
    "mixtral-8x7b": (8, 2, 4096, 14336),
    "qwen2-moe-2.7b": (64, 4, 2048, 1408),
    "phi-3.5-moe": (16, 2, 4096, 6400),
}
TOKENS = (4096, 8192, 16384, 32768, 65536)  # of all ranks together
MAX_RANKS = 8
WARMUPS = 3
MAX_INPUTS = 4  # copies of x, ids, weights and y that calls take in turn
ALIGNED = 8  # bf16 elements in 16 bytes, of which torch._grouped_mm wants rows to be multiples
SAMPLE = 8  # tokens of each rank that are checked
# Of the largest expected element. Products, activations, partials and sums over TP are rounded to bf16,
# 2^-9 each; a row that went astray is off by about a fourth of the largest element.
TOLERANCE = 2**-6
TIMEOUT = datetime.timedelta(seconds=60)  # of a collective
HOLD_CYCLES = 800_000  # about 0.4 ms: longer than it takes to queue a call
# Triton's interpreter runs the kernels on a CPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class Failure(Exception):
    """What ends the script with one sentence."""


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    tokens: int
    experts: int
    topk: int
    hidden: int
    inter: int
    ep: int
    tp: int

    @property
    def ranks(self):
        return self.ep * self.tp

    @property
    def split(self):
        return self.ep, self.tp

    @property
    def local_experts(self):
        return self.experts // self.ep

    @property
    def local_inter(self):
        return self.inter // self.tp


@dataclasses.dataclass(frozen=True)
class Job:
    """What all ranks are told."""

    device: str
    ranks: int
    port: int
    cases: tuple
    rounds: int
    graphs: bool
    path: str  # of the rows, or None
    run: str
    folder: str  # where a rank that fails says why


# Kernels. Each has its like in torch for a CPU.


@triton.jit
def silu_mul_kernel(fused, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < columns
    gate = tl.load(fused + row * 2 * columns + column, mask=mask).to(tl.float32)
    up = tl.load(fused + row * 2 * columns + columns + column, mask=mask).to(tl.float32)
    tl.store(out + row * columns + column, (gate * tl.sigmoid(gate) * up).to(tl.bfloat16), mask=mask)


@triton.jit
def gather_rows_kernel(rows, index, out, inverse, columns, DIVISOR: tl.constexpr,
                       INVERSE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    source = tl.load(index + row).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    value = tl.load(rows + source // DIVISOR * columns + column, mask=mask)
    tl.store(out + row.to(tl.int64) * columns + column, value, mask=mask)
    if INVERSE:
        tl.store(inverse + source, row)


@triton.jit
def expert_major_kernel(counts, index, ends, sources, experts, SOURCES: tl.constexpr,
                        EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    source, expert = tl.arange(0, SOURCES)[:, None], tl.arange(0, EXPERTS)[None, :]
    there = (source < sources) & (expert < experts)
    sizes = tl.load(counts + source * experts + expert, mask=there, other=0)  # of chunks
    flat = sizes.reshape(SOURCES * EXPERTS)
    received = (tl.cumsum(flat, 0) - flat).reshape(SOURCES, EXPERTS)
    # Beginnings and ends of chunks in expert-major order.
    received = tl.trans(received).reshape(SOURCES * EXPERTS)
    sizes = tl.trans(sizes).reshape(SOURCES * EXPERTS)
    end = tl.cumsum(sizes, 0)
    begin = end - sizes
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = (row[:, None] >= begin[None, :]) & (row[:, None] < end[None, :])
    shift = tl.sum(tl.where(within, (received - begin)[None, :], 0), 1)
    tl.store(index + row, row + shift, mask=row < tl.sum(sizes, 0))
    if tl.program_id(0) == 0:
        chunk = tl.arange(0, SOURCES * EXPERTS)
        is_last = (chunk % SOURCES == SOURCES - 1) & (chunk // SOURCES < experts)
        tl.store(ends + chunk // SOURCES, end, mask=is_last)


@triton.jit
def combine_kernel(rows, positions, weights, weight_stride, out, columns, TOPK: tl.constexpr,
                   BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    total = tl.zeros((BLOCK,), tl.float32)
    for slot in tl.static_range(TOPK):
        position = tl.load(positions + token * TOPK + slot).to(tl.int64)
        weight = tl.load(weights + token * weight_stride + slot)
        total += weight * tl.load(rows + position * columns + column, mask=mask).to(tl.float32)
    tl.store(out + token * columns + column, total.to(tl.bfloat16), mask=mask)


def row_launch(columns):
    """A program per row: BLOCK and the warps that read it 16 bytes a thread, twice."""
    block = triton.next_power_of_2(columns)
    return {"BLOCK": block, "num_warps": min(8, max(1, block // 512))}


def runs_kernels(tensor):
    return tensor.is_cuda or INTERPRETED


def silu_mul(fused, out):
    """out [rows, I] = silu(gate) * up, of fused [rows, 2 I]."""
    columns = out.shape[1]
    if runs_kernels(fused):
        silu_mul_kernel[(out.shape[0], triton.cdiv(columns, 1024))](fused, out, columns, BLOCK=1024)
    else:
        gate, up = fused.float().split(columns, 1)
        out.copy_(torch.nn.functional.silu(gate) * up)


def gather_rows(rows, index, out, divisor=1, inverse=None):
    """out[i] = rows[index[i] / divisor] and, unless it is None, inverse[index[i]] = i."""
    if runs_kernels(rows):
        gather_rows_kernel[(out.shape[0],)](rows, index, out, out if inverse is None else inverse,
                                            rows.shape[1], DIVISOR=divisor,
                                            INVERSE=inverse is not None, **row_launch(rows.shape[1]))
        return
    torch.index_select(rows, 0, index // divisor, out=out)
    if inverse is not None:
        inverse[index.long()] = torch.arange(len(index), dtype=inverse.dtype)


def expert_major(counts, index, ends):
    """Of received rows, which come by source and then expert, as counts [sources, experts] says: index[i]
    is the place of row i of those sorted by expert and then source, and ends [experts] their ends."""
    sources, experts = counts.shape
    if runs_kernels(counts):
        expert_major_kernel[(triton.cdiv(len(index), 128),)](
            counts, index, ends, sources, experts, SOURCES=triton.next_power_of_2(sources),
            EXPERTS=triton.next_power_of_2(experts), BLOCK=128)
        return
    chunk = torch.arange(sources * experts).view(sources, experts).repeat_interleave(counts.flatten())
    expert, source = chunk % experts, chunk // experts
    order = torch.argsort(expert * sources + source, stable=True)
    index[:len(order)] = order
    ends.copy_(counts.sum(0).cumsum(0))


def combine(rows, positions, weights, out):
    """out[t] = sum over slots s of weights[t, s] * rows[positions[t, s]], in float32."""
    topk = weights.shape[1]
    if runs_kernels(rows):
        combine_kernel[(out.shape[0],)](rows, positions, weights, weights.stride(0), out, out.shape[1],
                                        TOPK=topk, **row_launch(out.shape[1]))
    else:
        chosen = rows[positions.long()].view(-1, topk, rows.shape[1]).float()
        out.copy_((chosen * weights[:, :, None]).sum(1))


def mark(device):
    """A moment: of the stream, or of a CPU in microseconds."""
    if device.type != "cuda":
        return time.perf_counter() * 1e6
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between_us(begin, end):
    return begin.elapsed_time(end) * 1000 if isinstance(begin, torch.cuda.Event) else end - begin


class Rank:
    """This process among the others."""

    def __init__(self, rank, job):
        self.rank, self.ranks = rank, job.ranks
        if job.device == "cuda":
            torch.cuda.set_device(rank)
            self.device = torch.device("cuda", rank)
        else:
            torch.set_num_threads(1)
            self.device = torch.device("cpu")
        dist.init_process_group("nccl" if job.device == "cuda" else "gloo", rank=rank,
                                world_size=job.ranks, init_method=f"tcp://127.0.0.1:{job.port}",
                                timeout=TIMEOUT)
        self.flag = torch.zeros(1, device=self.device)
        # Each rank takes part in making all groups, in the same order.
        self.groups = {split: self.make_groups(*split)
                       for split in sorted({case.split for case in job.cases})}

    def make_groups(self, ep, tp):
        """This rank's groups over EP and TP; None of one rank."""
        columns = [range(column, self.ranks, tp) for column in range(tp)]
        rows = [range(row * tp, (row + 1) * tp) for row in range(ep)]
        return self.make_group(columns), self.make_group(rows)

    def make_group(self, parts):
        if len(parts) == 1:
            return dist.group.WORLD
        if len(parts) == self.ranks:
            return None
        groups = [dist.new_group(list(part), timeout=TIMEOUT) for part in parts]
        return next(group for group, part in zip(groups, parts) if self.rank in part)

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def hold(self):
        """A start line: holds the stream until all ranks have queued what follows."""
        if self.device.type == "cuda":
            torch.cuda._sleep(HOLD_CYCLES)
        dist.all_reduce(self.flag)

    def slowest(self, values):
        values = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.tolist()


class Weights:
    """Random experts of one rank: w13 [local experts, 2 I / TP, H], gate before up, and w2 [local experts,
    H, I / TP]. Scaled so that results are about 1."""

    def __init__(self, case, rank):
        generator = torch.Generator(rank.device).manual_seed(1 + rank.rank)

        def random(*shape, fan_in):
            made = torch.randn(shape, generator=generator, device=rank.device, dtype=torch.bfloat16)
            return made.mul_(1 / math.sqrt(fan_in))

        self.w13 = random(case.local_experts, 2 * case.local_inter, case.hidden, fan_in=case.hidden)
        self.w2 = random(case.local_experts, case.hidden, case.local_inter, fan_in=case.inter)


class Input:
    """x and y [tokens of the rank, H]; routing [tokens, 2 k] int32, which one all-gather can take: ids, and
    beside them weights as float32."""

    def __init__(self, case, generator):
        tokens, device = case.tokens // case.ranks, generator.device
        made = {"generator": generator, "device": device}
        self.x = torch.randn(tokens, case.hidden, dtype=torch.bfloat16, **made)
        self.y = torch.empty_like(self.x)
        ids = torch.rand(tokens, case.experts, **made).topk(case.topk).indices
        weights = torch.rand(tokens, case.topk, **made) + 0.1
        weights /= weights.sum(1, keepdim=True)
        self.routing = torch.cat((ids.int(), weights.view(torch.int32)), 1)


def split_routing(routing):
    """Views of ids and weights."""
    topk = routing.shape[1] // 2
    return routing[:, :topk], routing[:, topk:].view(torch.float32)


class Layer:
    """One case on one rank. Buffers are there for the worst routing, all rows to one rank."""

    def __init__(self, case, rank, weights):
        self.case, self.device = case, rank.device
        self.ep_group, self.tp_group = rank.groups[case.split]
        self.w13, self.w2 = weights.w13.transpose(1, 2), weights.w2.transpose(1, 2)
        self.marks = None  # Pairs of marks around collectives, while they are wanted.
        tokens = case.tokens // case.ep  # of the TP group
        copies, capacity = tokens * case.topk, case.tokens * case.topk
        bf16, ints = self.maker(torch.bfloat16), self.maker(torch.int32)
        if case.tp > 1:
            self.x, self.partial = bf16(tokens, case.hidden), bf16(tokens, case.hidden)
            self.routing = ints(tokens, 2 * case.topk)
        # uint8 makes one pass of the sort; models have fewer than 256 experts.
        self.expert_bounds = torch.arange(case.experts + 1, dtype=torch.uint8, device=self.device)
        self.send, self.positions = bf16(copies, case.hidden), ints(copies)
        self.activations = bf16(capacity, case.local_inter)
        if case.ep > 1:
            self.received = bf16(capacity, case.hidden)
            self.counts = ints(2, case.ep, case.local_experts)  # sent, received
            self.host_counts = torch.empty(self.counts.shape, dtype=torch.int32,
                                           pin_memory=self.device.type == "cuda")
            self.ends = ints(case.local_experts)
            self.index, self.inverse = ints(capacity), ints(capacity)
            # Rows for one expert are sorted as they come.
            self.sorts = case.local_experts > 1
            self.sorted = bf16(capacity if self.sorts else 0, case.hidden)

    def maker(self, dtype):
        return lambda *shape: torch.empty(shape, dtype=dtype, device=self.device)

    def collective(self, call, *arguments, **options):
        if self.marks is None:
            call(*arguments, **options)
            return
        begin = mark(self.device)
        call(*arguments, **options)
        self.marks.append((begin, mark(self.device)))

    def products(self, rows, ends):
        """Rows [rows, H] of all local experts, partial over TP; rows are sorted by expert and end at ends."""
        if len(rows) == 0:
            return rows
        activations = self.activations[:len(rows)]
        silu_mul(torch._grouped_mm(rows, self.w13, offs=ends), activations)
        return torch._grouped_mm(activations, self.w2, offs=ends)

    def permute(self, x, order):
        gather_rows(x, order, self.send, divisor=self.case.topk, inverse=self.positions)

    def exchange(self, x, order, bounds):
        """Copies of x to the experts' ranks, their products, and back: rows in the order of the copies."""
        torch.sub(bounds[1:], bounds[:-1], out=self.counts[0].view(-1))
        self.collective(dist.all_to_all_single, self.counts[1], self.counts[0], group=self.ep_group)
        self.host_counts.copy_(self.counts, non_blocking=True)
        counted = mark(self.device)
        # The GPU has work while the host waits for the counts.
        self.permute(x, order)
        expert_major(self.counts[1], self.index, self.ends)
        if self.device.type == "cuda":
            counted.synchronize()
        sent, came = self.host_counts.sum(2).tolist()
        total = sum(came)
        received = self.received[:total]
        self.collective(dist.all_to_all_single, received, self.send, came, sent, group=self.ep_group)
        if self.sorts:
            rows = self.sorted[:total]
            gather_rows(received, self.index[:total], rows, inverse=self.inverse)
            gather_rows(self.products(rows, self.ends), self.inverse[:total], received)
        else:
            received = self.products(received, self.ends)
        self.collective(dist.all_to_all_single, self.send, received, sent, came, group=self.ep_group)
        return self.send

    def __call__(self, given):
        x, routing, out = given.x, given.routing, given.y
        if self.case.tp > 1:
            self.collective(dist.all_gather_into_tensor, self.routing, routing, group=self.tp_group)
            self.collective(dist.all_gather_into_tensor, self.x, x, group=self.tp_group)
            x, routing, out = self.x, self.routing, self.partial
        ids, weights = split_routing(routing)
        by_expert, order = torch.sort(ids.to(torch.uint8).view(-1))
        bounds = torch.searchsorted(by_expert, self.expert_bounds, out_int32=True)
        if self.case.ep > 1:
            rows = self.exchange(x, order, bounds)
        else:
            self.permute(x, order)
            rows = self.products(self.send, bounds[1:])
        combine(rows, self.positions, weights, out)
        if self.case.tp > 1:
            self.collective(dist.reduce_scatter_tensor, given.y, out, group=self.tp_group)


def sampled(tokens):
    return torch.linspace(0, tokens - 1, SAMPLE).long()


def reference(case, rank, weights, given):
    """What the rank's sampled tokens should give, [SAMPLE, H]: each rank takes all ranks' samples through
    its slices of its experts, densely and in float32, and these are summed."""
    sample = sampled(len(given.x)).to(rank.device)
    x = torch.empty(rank.ranks * SAMPLE, case.hidden, dtype=torch.bfloat16, device=rank.device)
    routing = torch.empty(rank.ranks * SAMPLE, 2 * case.topk, dtype=torch.int32, device=rank.device)
    dist.all_gather_into_tensor(x, given.x[sample])
    dist.all_gather_into_tensor(routing, given.routing[sample])
    ids, token_weights = split_routing(routing)
    x, total = x.float(), torch.zeros_like(x, dtype=torch.float32)
    for local in range(case.local_experts):
        expert = rank.rank // case.tp * case.local_experts + local
        gate, up = (x @ weights.w13[local].float().t()).split(case.local_inter, 1)
        rows = (torch.nn.functional.silu(gate) * up) @ weights.w2[local].float().t()
        total += rows * (token_weights * (ids == expert)).sum(1, keepdim=True)
    dist.all_reduce(total)
    return total[rank.rank * SAMPLE:][:SAMPLE]


def check(case, rank, run, given, expected):
    given.y.fill_(math.nan)
    run()
    rank.synchronize()
    got = given.y[sampled(len(given.y)).to(rank.device)].float()
    worst = (got - expected).abs().max().item()
    limit = TOLERANCE * expected.abs().max().item()
    if not worst <= limit:
        raise Failure(f"{case.model} with {case.tokens} tokens and EP{case.ep} x TP{case.tp}: a result of "
                      f"rank {rank.rank} is off by {worst:.3g}, allowed {limit:.3g}")


def capture(rank, layer, inputs):
    """A replayable call of each input."""
    rank.synchronize()
    graphs, pool = [], torch.cuda.graph_pool_handle()
    for given in inputs:
        graph = torch.cuda.CUDAGraph()
        # NCCL's watchdog thread asks for events meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            layer(given)
        graphs.append(graph)
    return [graph.replay for graph in graphs]


def time_calls(rank, layer, calls, rounds):
    """Microseconds of each round, and of its collectives, on this rank."""
    times, communication = [], []
    for i in range(rounds):
        rank.hold()
        layer.marks = []
        begin = mark(rank.device)
        calls[i % len(calls)]()
        end = mark(rank.device)
        rank.synchronize()
        times.append(between_us(begin, end))
        communication.append(sum(between_us(*pair) for pair in layer.marks))
        layer.marks = None
    return times, communication


def make_inputs(case, rank):
    """As many as exceed twice the L2 together, up to MAX_INPUTS."""
    generator = torch.Generator(rank.device).manual_seed(1001 + rank.rank)
    count = 2
    if rank.device.type == "cuda":
        x_bytes = case.tokens // case.ranks * case.hidden * 2
        count = math.ceil(2 * torch.cuda.get_device_properties(rank.device).L2_cache_size / x_bytes)
    return [Input(case, generator) for _ in range(min(MAX_INPUTS, count))]


def measure(case, rank, weights, job):
    """Times of the rounds, of their collectives, and whether they were replayed from a graph."""
    inputs = make_inputs(case, rank)
    layer = Layer(case, rank, weights)
    calls = [lambda given=given: layer(given) for given in inputs]
    expected = reference(case, rank, weights, inputs[0])
    check(case, rank, calls[0], inputs[0], expected)
    for i in range(max(WARMUPS, len(calls))):
        calls[i % len(calls)]()
    times, communication = time_calls(rank, layer, calls, job.rounds)
    graph = job.graphs and case.ep == 1 and rank.device.type == "cuda"
    if graph:
        calls = capture(rank, layer, inputs)
        check(case, rank, calls[0], inputs[0], expected)
        for i in range(max(WARMUPS, len(calls))):
            calls[i % len(calls)]()
        times, _ = time_calls(rank, layer, calls, job.rounds)
    return rank.slowest(times), rank.slowest(communication), graph


def make_row(case, job, times, communication, graph):
    layer_us, communication_us = statistics.median(times), statistics.median(communication)
    cuda = job.device == "cuda"
    command = (f"nccl_layer.py --gpus {case.ranks} --models {case.model} --tokens {case.tokens} "
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
    print(f"{row['model']:<15} {row['tokens']:>6} {row['ep']}x{row['tp']}"
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


def fits(ep, tp, experts, inter):
    return experts % ep == 0 and inter % (tp * ALIGNED) == 0


def splits_of(text, ranks, model):
    """EP and TP of each split that is asked for, or of all that fit the model."""
    experts, _, _, inter = MODELS[model]
    if text == "auto":
        splits = [(ep, ranks // ep) for ep in range(ranks, 0, -1)
                  if ranks % ep == 0 and fits(ep, ranks // ep, experts, inter)]
        if not splits:
            raise Failure(f"{model} does not split over {ranks} ranks: it has {experts} experts and I = "
                          f"{inter}")
        return splits
    splits = []
    for word in text.split(","):
        ep, by, tp = word.partition("x")
        if not (by and ep.isdecimal() and tp.isdecimal() and int(ep) * int(tp) == ranks):
            raise Failure(f"--splits: '{word}', allowed are auto, or EPxTP with a product of {ranks}")
        if not fits(int(ep), int(tp), experts, inter):
            raise Failure(f"--splits: {model} has {experts} experts and I = {inter}, which '{word}' does "
                          f"not divide (I / TP in multiples of {ALIGNED})")
        splits.append((int(ep), int(tp)))
    return splits


def make_cases(models, tokens, splits, ranks):
    for model in models:
        if model not in MODELS:
            raise Failure(f"--models: '{model}', allowed are {', '.join(MODELS)}")
    for count in tokens:
        if not (count.isdecimal() and int(count) > 0 and int(count) % ranks == 0):
            raise Failure(f"--tokens: '{count}', allowed are positive multiples of the {ranks} ranks")
    return tuple(Case(model, int(count), *MODELS[model], ep, tp) for model in models
                 for ep, tp in splits_of(splits, ranks, model) for count in tokens)


def count_ranks(device, wanted):
    there = torch.cuda.device_count() if device == "cuda" else MAX_RANKS
    if there == 0:
        raise Failure("no GPU is there")
    ranks = min(there, MAX_RANKS) if wanted is None else wanted
    if not 1 <= ranks <= MAX_RANKS:
        raise Failure(f"--gpus: {ranks}, allowed are 1 to {MAX_RANKS}")
    if ranks > there:
        raise Failure(f"--gpus: {ranks} asked for, {there} there")
    return ranks


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
