# SPDX-License-Identifier: Apache-2.0
"""One layer with one number of tokens, run by several implementations: whether they are right, and how they are timed."""

import torch

SETTINGS = ("graph", "stream")
INPUTS = 8
MOST_CALLS = 16  # of a batch
BATCH_US = 4000  # that a batch takes about, if it is more than one call
MOST_US = 1e6  # of all rounds of one implementation; at least LEAST_ROUNDS run
LEAST_ROUNDS = 3
ALLOWED = {torch.bfloat16: 0.03, torch.float32: 1e-4}  # of the largest element: what results may differ by
CHECKED = 4  # tokens of a call that are compared with float32


class Variant:
    """One way to run experts. is_own: whether it counts as Transformers' own."""

    def __init__(self, name, module, is_own):
        self.name, self.module, self.is_own = name, module, is_own


class Timer:
    """A variant in one setting: how a batch is run, and the times of its rounds, microseconds a call."""

    def __init__(self, variant, setting, calls, run):
        self.variant, self.setting, self.calls, self.run = variant, setting, calls, run
        self.times, self.host_times = [], []

    def run_round(self, device):
        if len(self.times) >= LEAST_ROUNDS and sum(self.times) * self.calls > MOST_US:
            return
        time_us, host_us = device.time_us(self.run, is_held=self.setting == "graph")
        self.times.append(time_us / self.calls)
        self.host_times.append(host_us / self.calls)


class Case:
    """One layer with one number of tokens."""

    def __init__(self, layer, tokens, device):
        self.layer, self.tokens, self.device = layer, tokens, device
        self.inputs = [layer.make_input(tokens) for _ in range(INPUTS)]
        self._rows = sorted({t * (tokens - 1) // max(1, CHECKED - 1) for t in range(CHECKED)} if tokens > 1 else {0})
        self._truth = layer.truth(self.inputs[0], self._rows)
        self._other = None  # all tokens, of whoever was right first

    def check(self, y):
        """Raises ArithmeticError unless y [T, H] is what the first input should give."""
        for got, expected, whose in ((y[self._rows], self._truth, "float32"), (y, self._other, "another's result")):
            if expected is None:
                continue
            limit = ALLOWED[y.dtype] * expected.float().abs().max().item()
            worst = (got.float() - expected.float()).abs().max().item()
            if not worst <= limit:
                raise ArithmeticError(f"off by {worst:.3g} from {whose}, allowed {limit:.3g}")
        if self._other is None:
            self._other = y.clone()

    def batch(self, variant, calls):
        return [variant.module(*self.inputs[i % INPUTS].arguments()) for i in range(calls)]

    def make_stream_timer(self, variant):
        """Checked, and warm."""
        self.check(variant.module(*self.inputs[0].arguments()))
        self.batch(variant, 2)
        self.device.synchronize()
        once_us, _ = self.device.time_us(lambda: self.batch(variant, 1))
        calls = int(min(MOST_CALLS, max(1, BATCH_US // max(once_us, 1))))
        self.batch(variant, calls)
        return Timer(variant, "stream", calls, lambda: self.batch(variant, calls))

    def make_graph_timer(self, variant, calls):
        sync = self.device.find_sync(lambda: self.batch(variant, 1))
        if sync is not None:
            raise RuntimeError("waits for the GPU, so no graph can hold it")
        replay, results = self.device.capture(lambda: self.batch(variant, calls))
        for y in results:
            y.fill_(float("nan"))
        replay()
        self.device.synchronize()
        self.check(results[0])
        if not all(y.isfinite().all() for y in results):
            raise ArithmeticError("a replay leaves numbers that are none")
        return Timer(variant, "graph", calls, replay)

    def make_timers(self, variants, on_error):
        """Those that run; on_error(variant, setting, error) hears of the others."""
        timers = []
        for variant in variants:
            setting = "stream"
            try:
                timers.append(self.make_stream_timer(variant))
                setting = "graph"
                timers.append(self.make_graph_timer(variant, timers[-1].calls))
            except Exception as error:  # one implementation's failure is a row, not the end
                for missing in SETTINGS if setting == "stream" else (setting,):
                    on_error(variant, missing, error)
        return timers


def sentence_of(error):
    """An exception as a row has it."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:300]
