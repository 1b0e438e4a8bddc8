# SPDX-License-Identifier: Apache-2.0
"""Whether the NCCL baseline is right, and how long it takes."""

import math

import torch
import torch.distributed as dist

from nccl_cases import Failure
from nccl_rank import Input, Layer, between_us, mark, split_routing

WARMUPS = 3
MAX_INPUTS = 4  # copies of x, ids, weights and y that calls take in turn
SAMPLE = 8  # tokens of each rank that are checked
# Of the largest expected element. Products, activations, partials and sums over TP are rounded to bf16,
# 2^-9 each; a row that went astray is off by about a fourth of the largest element.
TOLERANCE = 2**-6


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
