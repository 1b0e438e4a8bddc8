#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Experts of Transformers' models spread over processes: by Comet's expert parallelism, and by Transformers' own.

    transformers_ep_layers.py --ranks 4                      starts torchrun by itself
    torchrun --nproc-per-node 4 transformers_ep_layers.py    the ranks alone
    transformers_ep_layers.py --device cpu --ranks 2         rehearses, tiny; times mean nothing

All processes hold one batch, as where a model generates, and get all results; each has its own experts. What is timed
is a call of the experts module alone: its tokens' ways there and back, but neither router nor attention. Transformers'
own ways are "all_to_all", which waits for the GPU, and "all_reduce", each with its grouped_mm; "all_reduce" also with
Comet on each process's experts alone. Settings, inputs and checks are those of transformers_layers.py; a round is each
input once, its time the slowest process's, by the call, and the median over rounds is told. Exits 1 if results differ.
A way that fails ends the run, since others would wait for the process that it failed in: --ways leaves it out. Each
rank needs a GPU of its own, as NCCL wants it.
"""

import argparse
import copy
import importlib.metadata
import os
import statistics
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # implementations of the hub end at once where they are not installed

import torch  # noqa: E402
from torch import distributed  # noqa: E402
from transformers.distributed import expert_parallel  # noqa: E402

import comet_moe  # noqa: E402
from bench_rows import RowFile  # noqa: E402
from comet_moe.integrations import transformers as integration  # noqa: E402
from devices import find_device  # noqa: E402
from layer_cases import Case, sentence_of  # noqa: E402
from model_layers import MODELS, ModelLayer  # noqa: E402
from torchrun import is_rank, start_ranks, take_gpu  # noqa: E402

SUITE = "python_ep"
TOKENS = (4096, 1, 4, 16, 64, 256, 1024)  # the largest first: later calls find its layer
# Name: how tokens come to experts, what computes these, and whether a CUDA graph can hold it.
WAYS = {"all_to_all": ("all_to_all", "grouped_mm", False), "all_reduce": ("all_reduce", "grouped_mm", True),
        "all_reduce+comet": ("all_reduce", integration.NAME, True), "comet": (integration.NAME, integration.NAME, True)}
WARM_UP = 3
LIMIT_S = 560


class Way:
    """One way to compute a layer's experts, on this process's part of them."""

    def __init__(self, name, experts, mesh):
        implementation, inner, self.fits_graph = WAYS[name]
        self.name = name
        self.is_own = integration.NAME not in (implementation, inner)
        experts = copy.copy(experts)
        experts.config = copy.copy(experts.config)
        experts.config._experts_implementation = inner
        self._run = expert_parallel.EPImplementationInterface()[implementation](experts, mesh, mesh)

    def run(self, given):
        return self._run(*given.arguments()).to(given.hidden.dtype)


def own_part(layer, mesh):
    """The layer's module with this process's experts alone."""
    experts, parts, part = layer.with_implementation("grouped_mm"), mesh.size(), mesh.get_local_rank()
    experts._parameters = dict(experts._parameters)
    for name in ("gate_up_proj", "down_proj"):
        own = getattr(experts, name).chunk(parts)[part].clone()
        experts._parameters[name] = torch.nn.Parameter(own, requires_grad=False)
    experts.num_experts = layer.experts // parts
    experts._is_expert_parallel = True  # ids of others' experts are masked
    return experts


class Bench:
    """All cases of a run; rows and words by rank 0."""

    def __init__(self, flags, device, mesh, rows):
        self._flags, self._device, self._mesh, self._rows = flags, device, mesh, rows
        self.failures = 0

    def run_model(self, name):
        device = self._device
        layer = ModelLayer(name, device.device, device.dtype, device.name == "cpu")
        if layer.experts % self._mesh.size() != 0:
            raise ValueError(f"--ranks: {self._mesh.size()}, they must divide the {layer.experts} experts of {name}")
        cases = [Case(layer, tokens, device) for tokens in self._flags.tokens]
        own = own_part(layer, self._mesh)
        ways = [Way(way, own, self._mesh) for way in self._flags.ways]
        for case in cases:
            self._tell(case, {way.name: self._run_way(case, way) for way in ways})

    def _run_way(self, case, way):
        """Microseconds a call by setting; rows as they come."""
        times = {}
        for setting in ("stream", "graph"):
            if setting == "graph" and not (way.fits_graph and self._device.name == "cuda"):
                continue
            try:
                times[setting] = self._time(case, way, setting)
            except ArithmeticError as error:  # in all processes
                self.failures += 1
                self._row(case, way, setting, result="failed", error=sentence_of(error))
            except (RuntimeError, comet_moe.CometError) as error:
                print(f"transformers_ep_layers: rank {self._mesh.get_local_rank()}, {case.layer.name}, {case.tokens} tokens, "
                      f"{way.name}, {setting}: {sentence_of(error)}", file=sys.stderr, flush=True)
                os._exit(1)  # an orderly end may wait for the others, whom torchrun ends
        return times

    def _check(self, case, y):
        """Raises ArithmeticError in all processes unless what the first input gave is right in all."""
        error = None
        try:
            case.check(y)
        except ArithmeticError as found:
            error = found
        if self._slowest([float(error is not None)])[0] > 0:
            raise error or ArithmeticError("another process's result is off")

    def _slowest(self, values):
        """The largest of all processes' values, one by one."""
        of_all = torch.tensor(values, dtype=torch.float64, device=self._device.device)
        distributed.all_reduce(of_all, distributed.ReduceOp.MAX)
        return of_all.tolist()

    @torch.no_grad()
    def _time(self, case, way, setting):
        device, inputs = self._device, case.inputs

        def run():
            return [way.run(given) for given in inputs]

        self._check(case, run()[0])
        replay = run
        if setting == "graph":
            replay, results = device.capture(run)
            for y in results:
                y.fill_(float("nan"))
            replay()
            self._check(case, results[0])
        rounds = []
        for _ in range(WARM_UP + self._flags.rounds):
            distributed.barrier()
            device.synchronize()
            rounds.append(device.time_us(replay, is_held=setting == "graph")[0] / len(inputs))
        slowest = self._slowest(rounds[WARM_UP:])
        median = statistics.median(slowest)
        self._row(case, way, setting, result="passed", t_us=round(median, 2), t_min_us=round(min(slowest), 2),
                  t_max_us=round(max(slowest), 2), rounds=len(slowest))
        return median

    def _row(self, case, way, setting, **what):
        if self._rows is None:
            return
        layer = case.layer
        self._rows.append(kind="layer", model=layer.name, tokens=case.tokens, hidden=layer.hidden, intermediate=layer.inter,
                          experts=layer.experts, topk=layer.topk, dtype=str(self._device.dtype).removeprefix("torch."),
                          ranks=self._mesh.size(), implementation=way.name, is_own=way.is_own,
                          transformers=importlib.metadata.version("transformers"), setting=setting, **what)
        if what["result"] == "failed":
            print(f"{layer.name}, {case.tokens} tokens, {way.name}, {setting}: {what['error']}", flush=True)

    def _tell(self, case, found):
        """A line per setting: Comet over the fastest of Transformers' own."""
        if self._rows is None:
            return
        for setting in ("stream", "graph"):
            times = {name: of[setting] for name, of in found.items() if setting in of}
            own = [time for name, time in times.items() if integration.NAME not in name]
            line = ", ".join(f"{name} {time:.0f}" for name, time in times.items())
            if integration.NAME in times and own:
                line += f" | comet x{min(own) / times[integration.NAME]:.2f}"
            if line:
                print(f"{case.layer.name}, {case.tokens} tokens, {setting}: us {line}", flush=True)


def run_rank(flags):
    """What each process of torchrun does; returns its exit code."""
    if flags.device == "cuda" and torch.cuda.is_available():
        check_gpus(int(os.environ["LOCAL_WORLD_SIZE"]))
        take_gpu()
    device = find_device(flags.device)
    distributed.init_process_group("nccl" if device.name == "cuda" else "gloo")
    integration.enable()
    registry = getattr(expert_parallel, "EPImplementationInterface", None)
    if registry is None or integration.NAME not in registry():
        raise ValueError(f"Transformers {importlib.metadata.version('transformers')} has no choice of expert parallelism")
    mesh = distributed.device_mesh.init_device_mesh(device.name, (distributed.get_world_size(),), mesh_dim_names=("ep",))
    rows = None
    if distributed.get_rank() == 0:
        rows = RowFile(SUITE, device.label, flags.json or os.environ.get("COMET_ROWS"))
    bench = Bench(flags, device, mesh, rows)
    for name in flags.models:
        bench.run_model(name)
        device.free()
    distributed.barrier()
    return 1 if bench.failures else 0


def check_gpus(ranks):
    """Raises ValueError unless each rank can have a GPU."""
    gpus = torch.cuda.device_count()  # does not start CUDA
    if gpus < ranks:
        raise ValueError(f"--ranks: {ranks}, and PyTorch finds {gpus} GPU(s) here, each rank needs one; "
                         "--device cpu rehearses")


def start(flags):
    """Torchrun on this program."""
    if flags.device == "cuda":
        check_gpus(flags.ranks)
    start_ranks(__file__, flags.ranks, sys.argv[1:], {}, LIMIT_S)


def words(text):
    return text.split(",")


def numbers(text):
    return [int(word) for word in words(text)]


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--ranks", type=int, default=4, help="where torchrun has not started them (%(default)s)")
    for flag, allowed in (("models", MODELS), ("ways", WAYS)):
        parser.add_argument(f"--{flag}", type=words, default=list(allowed),
                            help=f"with commas between; default: {','.join(allowed)}")
    parser.add_argument("--tokens", type=numbers, default=list(TOKENS),
                        help=f"of the batch; default: {','.join(map(str, TOKENS))}")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", metavar="FILE", help="append rows; default: the file that COMET_ROWS names")
    flags = parser.parse_args()
    for name, allowed in (("models", MODELS), ("ways", WAYS)):
        unknown = [word for word in getattr(flags, name) if word not in allowed]
        if unknown:
            parser.error(f"--{name}: '{unknown[0]}', allowed are {', '.join(allowed)}")
    if flags.rounds < 1 or flags.ranks < 1 or min(flags.tokens) < 1:
        parser.error(f"--rounds {flags.rounds}, --ranks {flags.ranks}, --tokens {min(flags.tokens)}: from 1")
    return flags


def main():
    flags = read_flags()
    # NVLink multicast stays off: a fault in it can take all GPUs of a host out of service.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    try:
        if is_rank():
            return run_rank(flags)
        start(flags)
    except (ValueError, comet_moe.CometError) as error:
        print(f"transformers_ep_layers: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
