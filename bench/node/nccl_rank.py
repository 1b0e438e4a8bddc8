# SPDX-License-Identifier: Apache-2.0
"""The layer of the NCCL baseline on one rank: its place among the others, its weights, its tokens, its calls."""

import datetime
import math
import time

import torch
import torch.distributed as dist

from nccl_kernels import combine, expert_major, gather_rows, silu_mul

TIMEOUT = datetime.timedelta(seconds=60)  # of a collective
HOLD_CYCLES = 800_000  # about 0.4 ms: longer than it takes to queue a call


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
