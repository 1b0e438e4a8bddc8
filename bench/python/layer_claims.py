# SPDX-License-Identifier: Apache-2.0
"""What rows of suite python_layers say: a table, and whether Comet's claims beside Transformers hold."""

import math

LARGE = 4096  # tokens of a prefill, on which the first claim is
LEAST_MEAN = 1.15  # best of Transformers' own over comet, geometric mean over the models
LEAST_ONE = 1.05  # the same of each model
LEAST_DECODE = 1.0  # the same with up to MOST_DECODE tokens
MOST_DECODE = 64


class Cases:
    """Times by (setting, model, tokens) and implementation, of the rows of one kind."""

    def __init__(self, rows, kind="layer"):
        self.times, self.rows = {}, {}
        for row in rows:
            if row["kind"] != kind:
                continue
            key = row["setting"], row["model"], row["tokens"]
            self.rows.setdefault(key, {})[row["implementation"]] = row
            if row["error"] is None:
                self.times.setdefault(key, {})[row["implementation"]] = row["t_us"]

    def best_own(self, key):
        """(time, name) of Transformers' fastest implementation, or None if none ran."""
        own = [(time, name) for name, time in self.times.get(key, {}).items() if self.rows[key][name]["is_own"]]
        return min(own, default=None)

    def ratio(self, key):
        """Transformers' best time over comet's, or None."""
        best, comet = self.best_own(key), self.times.get(key, {}).get("comet")
        return best[0] / comet if best and comet else None


def print_table(rows, kind):
    """A line per case; times in microseconds a call. "reading" is how long the GPU's memory takes for the experts'
    weights at the rate of a copy, "host" how long the host takes to launch."""
    cases = Cases(rows, kind)
    if not cases.rows:
        return
    names = sorted({name for row in cases.rows.values() for name in row}, key=lambda name: ("comet" not in name, name))
    print(f"{'setting':<7} {'model':<14} {'tokens':>6} " + " ".join(f"{name[:13]:>13}" for name in names) +
          f" {'best / comet':>12} {'reading':>8} {'comet host':>10}")
    for key in sorted(cases.rows):
        texts = [f"{cases.times.get(key, {}).get(name, math.nan):13.1f}" for name in names]
        ratio, comet = cases.ratio(key), cases.rows[key].get("comet", {})
        floor, host = comet.get("floor_us"), comet.get("host_us")
        print(f"{key[0]:<7} {key[1]:<14} {key[2]:>6} " + " ".join(texts) +
              f" {f'{ratio:.2f}x' if ratio else '-':>12} {f'{floor:.0f}' if floor else '-':>8}"
              f" {f'{host:.0f}' if host else '-':>10}")
    for text in dict.fromkeys(f"{row['implementation']}, {row['setting']}: {row['error']}"
                              for case in cases.rows.values() for row in case.values() if row["error"]):
        print("no time:", text)


def print_kernels(rows):
    """What each implementation launches in a call."""
    rows = [row for row in rows if row["kind"] == "kernels"]
    for text in dict.fromkeys(f"{row['implementation']}: {row['error']}" for row in rows if row["error"]):
        print("no kernels:", text)
    for row in rows:
        if row["error"]:
            continue
        calls, us = (sum(kernel[key] for kernel in row["kernels"]) for key in ("calls", "us"))
        print(f"{row['model']}, {row['tokens']} tokens, {row['implementation']}: {calls:.0f} kernels, {us:.1f} us")
        for kernel in row["kernels"]:
            print(f"  {kernel['calls']:6.1f} x {kernel['us']:8.1f} us  {kernel['name'][:90]}")


def find_broken_claims(rows, models, settings):
    """A sentence for each claim that the rows do not show."""
    cases, broken = Cases(rows), []
    for setting in settings:
        ratios = {model: cases.ratio((setting, model, LARGE)) for model in models}
        for model, ratio in ratios.items():
            if ratio is None or ratio < LEAST_ONE:
                broken.append(f"{setting}, {model}, {LARGE} tokens: {said(ratio)}, at least {LEAST_ONE} is claimed")
        if all(ratios.values()):
            mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
            if mean < LEAST_MEAN:
                broken.append(f"{setting}, {LARGE} tokens: {mean:.3f} in the geometric mean, at least {LEAST_MEAN} is "
                              "claimed")
        decodes = [key for key in sorted(cases.rows) if key[0] == setting and key[2] <= MOST_DECODE]
        if not decodes:
            broken.append(f"{setting}: no row of up to {MOST_DECODE} tokens")
        for key in decodes:
            ratio = cases.ratio(key)
            if ratio is None or ratio < LEAST_DECODE:
                broken.append(f"{setting}, {key[1]}, {key[2]} tokens: {said(ratio)}, at least {LEAST_DECODE} is claimed")
    return broken


def said(ratio):
    return "not measured" if ratio is None else f"{ratio:.3f} times as fast as Transformers' best"
