# SPDX-License-Identifier: Apache-2.0
"""Where the time of a call of comet goes: a trace of it, by a row's own choices and at its link's rate.

For rows whose efficiency is short, to say why; and for rows over fast links, since ranks that share a GPU share its
memory: where each sends a lot, it is that memory, and not a link or the schedule, that sets the time, which shows in
products that take longer than alone.
"""

import json
import re
import tempfile
from pathlib import Path
from statistics import mean

import bench_cases
from bench_cases import Failure


def is_traced(row):
    """Whether it says where its call's time goes."""
    return "before_products_us" in row


def lacks_parts(row, below, above_gbs):
    """Whether it is a row of comet, of less efficiency or over a link faster than so many GB/s, that says no parts yet."""
    if row["schedule"] != "comet" or is_traced(row):
        return False
    return (row["link_gbs"] or 0) > above_gbs or (row["efficiency"] or 1) < below


def trace_flags(row):
    """Flags of `comet trace` for the row's case, replayed or launched as there, at the very rate and with the very choices."""
    case = re.sub(r"--link \S+", f"--link paced:{row['link_gbs']}", row["point"])
    return [*case.split(), "--schedules", "comet", "--groups", row["groups"], "--panel", row["panel"],
            "--n-c-dispatch", row["n_c_dispatch"], "--n-c-combine", row["n_c_combine"]]


def parts_of(events, workers):
    """Parts of a call of one schedule, in microseconds, of the rank that is longest in products; {} without any.

    Means over its workers, so many, or `workers` None: those that have products. What comes before their first product
    (`plan_ends_us` of it until its plan is made), all products, the gaps between them, and what comes after the last until
    all ranks have ended. Together they are the call.
    """
    ranks = {}  # {rank: {worker: its products}}
    for event in events:
        if event.get("cat") == "compute":
            ranks.setdefault(event["pid"], {}).setdefault(event["tid"], []).append(event)
    if not ranks:
        return {}
    ends = [event["ts"] + event["dur"] for event in events if event.get("ph") == "X"]

    def busy_us(rank):
        products = ranks[rank].values()
        return sum(event["dur"] for own in products for event in own) / (workers or len(products))

    busiest = max(ranks, key=busy_us)
    first = mean(min(event["ts"] for event in own) for own in ranks[busiest].values())
    last = mean(max(event["ts"] + event["dur"] for event in own) for own in ranks[busiest].values())
    plans = [event["ts"] + event["dur"] for event in events
             if event.get("cat") == "plan" and event["name"] == "plan" and event["pid"] == busiest]
    return {"plan_ends_us": max(plans, default=0.0), "before_products_us": first, "products_us": busy_us(busiest),
            "between_products_us": last - first - busy_us(busiest), "after_products_us": max(ends) - last}


def add_to(row, comet, shared):
    """Has a trace taken, and says in the row where its call's time goes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        code, said = bench_cases.run_command([comet, "trace", *shared, *trace_flags(row), "--out", path],
                                             on_line=lambda line: None)
        if code != 0:
            raise Failure(f"comet trace: {said or f'exit {code}'}")
        parts = parts_of(json.loads(path.read_text(encoding="utf-8"))["traceEvents"], row["sms"])
    if not parts:
        raise Failure("comet trace: no products")
    row.update(parts, products_slowed=parts["products_us"] / row["t_compute_us"])


def said_of(row):
    """The parts in words; that there was no trace, if so."""
    if not is_traced(row):
        return "not traced"
    keys = ("before_products_us", "products_us", "between_products_us", "after_products_us")
    call = sum(row[key] for key in keys)
    before, _, between, after = (f"{row[key] / call:.0%}" for key in keys)
    return (f"products take {row['products_slowed']:.2f} of their time alone; of a call {before} pass before the first (plan "
            f"{row['plan_ends_us'] / call:.0%}), {between} between them and {after} after the last")
