# SPDX-License-Identifier: Apache-2.0
"""How long a call's products take beside its copies, over computation alone.

Ranks that share a GPU share its memory. Where each sends a lot, it is that memory, and not a link or the schedule,
that sets the time, which shows in products that take longer. Traces tell how long they take.
"""

import json
import re
import tempfile
from pathlib import Path

import bench_cases
from bench_cases import Failure


def lacks_them(row, above_gbs):
    """Whether it is a row of comet, over a link faster than so many GB/s, that does not say it yet."""
    return (row["schedule"] == "comet" and (row["link_gbs"] or 0) > above_gbs and "products_us" not in row
            and not row["point"].endswith("--no-graphs"))


def trace_flags(row):
    """Flags of `comet trace` for the row's case at the very rate and with the very choices."""
    case = re.sub(r"--link \S+", f"--link paced:{row['link_gbs']}", row["point"])
    return [*case.split(), "--schedules", "comet", "--groups", row["groups"], "--panel", row["panel"],
            "--n-c-dispatch", row["n_c_dispatch"], "--n-c-combine", row["n_c_combine"]]


def busiest_us(events, workers):
    """The longest that any rank's workers, of which each has so many, are in products on average; 0 without any.

    `workers` None: those that have products.
    """
    time, seen = {}, {}
    for event in events:
        if event.get("cat") == "compute":
            time[event["pid"]] = time.get(event["pid"], 0.0) + event["dur"]
            seen.setdefault(event["pid"], set()).add(event["tid"])
    return max((time[rank] / (workers or len(seen[rank])) for rank in time), default=0.0)


def add_to(row, comet, shared):
    """Has a trace taken, and says in the row how long its products took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        code, said = bench_cases.run_command([comet, "trace", *shared, *trace_flags(row), "--out", path],
                                             on_line=lambda line: None)
        if code != 0:
            raise Failure(f"comet trace: {said or f'exit {code}'}")
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    row["products_us"] = busiest_us(events, row["sms"])
    row["products_slowed"] = row["products_us"] / row["t_compute_us"]
