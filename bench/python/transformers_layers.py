#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Claim: experts of Transformers' models run faster by its implementation "comet" than by the fastest of its own.

    transformers_layers.py                        measures, prints a table
    transformers_layers.py --check                also exits 1 if a claim does not hold (layer_claims.py)
    transformers_layers.py --table FILE --check   the same of rows that --json wrote
    transformers_layers.py --device cpu           rehearses all of it on tiny layers; times mean nothing

One GPU, one rank, bfloat16, layers of full width with random weights, tokens routed by the model's own router. What is
timed is a call of the experts module alone: neither router nor attention. Each implementation that Transformers has
registered, its eager one, and Comet's are measured in two settings: "stream" launches calls one after the other, as
generate() does, so what the host takes counts if the GPU waits for it; "graph" replays them from one CUDA graph, where
the implementation does not wait for the GPU. Calls take eight inputs in turn, so experts' weights are read from memory
as in a model of many layers. All are compared with float32 and with each other first, and then run in turns, round by
round; a time is the median over rounds of a batch's, by the call. "comet fused", the same layer by schedule
comet whatever the number of tokens, and with --compile Transformers' grouped_mm through torch.compile, are told for comparison only.
"""

import argparse
import importlib.metadata
import os
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # implementations of the hub end at once where they are not installed

import torch  # noqa: E402
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS  # noqa: E402

import comet_moe  # noqa: E402
from bench_rows import RowFile, read_rows  # noqa: E402
from comet_moe.integrations import transformers as integration  # noqa: E402
from devices import find_device  # noqa: E402
from layer_cases import INPUTS, SETTINGS, Case, Variant, sentence_of  # noqa: E402
from layer_claims import find_broken_claims, print_kernels, print_table  # noqa: E402
from model_layers import MODELS, ModelLayer  # noqa: E402

SUITE = "python_layers"
TOKENS = (4096, 1, 2, 4, 8, 16, 32, 64)  # the largest first: later calls find its layer
FEW_TOKENS = (4096, 1)  # of what takes long, or is for the eye


def comet_fused(module, hidden, index, weights):
    """The same layer by schedule comet, which one rank alone does not always take."""
    return comet_moe.moe(hidden, index, weights, module.gate_up_proj, module.down_proj, schedule="comet",
                         **integration.layout_of(module))


def make_variants(layer, own):
    names = [*own, integration.NAME, "comet fused"]
    return [Variant(name, layer.with_implementation(name), name in own) for name in names]


def compiled_variants(layer):
    """What --compile measures in a pass of its own."""
    module = layer.with_implementation("grouped_mm")
    return [Variant(integration.NAME, layer.with_implementation(integration.NAME), False),
            Variant("grouped_mm", module, True),
            Variant("grouped_mm compiled", torch.compile(module, dynamic=False), False)]


class Bench:
    """All cases of a run, and their rows."""

    def __init__(self, flags, device, rows):
        self._flags, self._device, self._rows = flags, device, rows
        self._end = time.monotonic() + flags.seconds
        self._rate = device.copy_rate()
        self._own = [name for name in ("eager", *ALL_EXPERTS_FUNCTIONS.keys())
                     if name not in flags.leave_out and not name.startswith(integration.NAME)]
        integration.enable()
        ALL_EXPERTS_FUNCTIONS.register("comet fused", comet_fused)

    def run_model(self, name):
        layer = self._make_layer(name)
        for tokens in self._flags.tokens:
            self._run_case(layer, tokens, make_variants(layer, self._own), "layer")

    def run_compiled(self, name):
        layer = self._make_layer(name)
        for tokens in FEW_TOKENS:
            torch.compiler.reset()  # a function is compiled for few shapes, and then no more
            self._run_case(layer, tokens, compiled_variants(layer), "compiled")

    def _run_case(self, layer, tokens, variants, kind):
        print(f"# {time.monotonic() - self._end + self._flags.seconds:.0f} s: {kind}, {layer.name}, {tokens} tokens",
              flush=True)
        if time.monotonic() > self._end:
            self._append_missing(layer, tokens, variants, kind, f"--seconds {self._flags.seconds} were over")
            return
        try:
            self._measure(layer, tokens, variants, kind)
        except Exception as error:
            self._append_missing(layer, tokens, variants, kind, sentence_of(error))
        finally:
            self._device.free()

    def _measure(self, layer, tokens, variants, kind):
        case = Case(layer, tokens, self._device)
        timers = case.make_timers(variants, lambda variant, setting, error: self._append(
            layer, tokens, variant, kind, setting=setting, error=sentence_of(error)))
        for _ in range(self._flags.rounds):
            for timer in timers:
                timer.run_round(self._device)
        touched = round(statistics.mean(layer.touched_bytes(given) for given in case.inputs))
        for timer in timers:
            self._append(layer, tokens, timer.variant, kind, setting=timer.setting, error=None,
                         t_us=round(statistics.median(timer.times), 2), t_min_us=round(min(timer.times), 2),
                         t_max_us=round(max(timer.times), 2), host_us=round(statistics.median(timer.host_times), 2),
                         calls=timer.calls, rounds=len(timer.times), touched_bytes=touched,
                         floor_us=round(touched / self._rate, 2) if self._rate else None)

    def list_kernels(self, name):
        """What each implementation that runs launches in a call, and how long it takes."""
        layer = self._make_layer(name)
        for tokens in FEW_TOKENS:
            if time.monotonic() > self._end:
                return
            case = Case(layer, tokens, self._device)
            for variant in make_variants(layer, [name for name in self._own if name != "eager"]):
                try:
                    case.batch(variant, 2)
                    kernels = self._device.kernel_times(lambda: case.batch(variant, INPUTS))
                except Exception as error:
                    self._append(layer, tokens, variant, "kernels", error=sentence_of(error))
                else:
                    self._append(layer, tokens, variant, "kernels", error=None, kernels=[
                        {"name": kernel, "calls": count / INPUTS, "us": round(us / INPUTS, 2)}
                        for kernel, count, us in kernels])
            self._device.free()

    def _make_layer(self, name):
        return ModelLayer(name, self._device.device, self._device.dtype, is_tiny=self._device.name == "cpu")

    def _append(self, layer, tokens, variant, kind, **figures):
        self._rows.append(
            kind=kind, model=layer.name, tokens=tokens, hidden=layer.hidden, intermediate=layer.inter,
            experts=layer.experts, topk=layer.topk, dtype=str(self._device.dtype).removeprefix("torch."), ranks=1,
            implementation=variant.name, is_own=variant.is_own, transformers=importlib.metadata.version("transformers"),
            result="passed" if figures["error"] is None else "failed", **figures)

    def _append_missing(self, layer, tokens, variants, kind, error):
        for variant in variants:
            for setting in SETTINGS:
                self._append(layer, tokens, variant, kind, setting=setting, error=error)


def words(text):
    return [word for word in text.split(",") if word]


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if a claim does not hold")
    parser.add_argument("--table", metavar="FILE", help="measure nothing, take the last run's rows of a file")
    parser.add_argument("--json", metavar="FILE", help="append rows; default: the file that COMET_ROWS names")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", type=words, default=list(MODELS), help=f"default: {','.join(MODELS)}")
    parser.add_argument("--tokens", type=words, default=[str(count) for count in TOKENS],
                        help=f"default: {','.join(map(str, TOKENS))}")
    parser.add_argument("--leave-out", type=words, default=[], help="implementations of Transformers")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=150, help="no case begins later; default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="also grouped_mm through torch.compile")
    parser.add_argument("--kernels", action="store_true", help="also lists the GPU's kernels of a call, after all else")
    flags = parser.parse_args()
    for name in flags.models:
        if name not in MODELS:
            parser.error(f"--models: '{name}', allowed are {', '.join(MODELS)}")
    for count in flags.tokens:
        if not count.isdecimal() or not 1 <= int(count) <= 65536:
            parser.error(f"--tokens: '{count}', allowed are 1 to 65536")
    if flags.rounds < 1:
        parser.error(f"--rounds: {flags.rounds}, from 1")
    flags.tokens = [int(count) for count in flags.tokens]
    return flags


def measure(flags):
    """The rows of a run, and whether it came to its end: a GPU that has had a fault does nothing more."""
    device = find_device(flags.device)
    rows = RowFile(SUITE, device.label, flags.json or os.environ.get("COMET_ROWS"))
    try:
        with torch.no_grad():
            bench = Bench(flags, device, rows)
            for name in flags.models:
                bench.run_model(name)
            for name in flags.models if flags.compile else []:
                bench.run_compiled(name)
            for name in flags.models if flags.kernels else []:
                bench.list_kernels(name)
    except Exception as error:
        print(f"transformers_layers: stopped: {sentence_of(error)}", file=sys.stderr, flush=True)
        return rows.rows, False
    return rows.rows, True


def last_run(rows):
    return [row for row in rows if row["run"] == rows[-1]["run"]]


def main():
    flags = read_flags()
    try:
        rows, is_whole = (last_run(read_rows(flags.table, SUITE)), True) if flags.table else measure(flags)
    except ValueError as error:
        sys.exit(f"transformers_layers: {error}")
    print_kernels(rows)
    print_table(rows, "compiled")
    print_table(rows, "layer")
    broken = find_broken_claims(rows, flags.models, SETTINGS) if flags.check else []
    for sentence in broken:
        print("does not hold:", sentence)
    return 0 if is_whole and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
