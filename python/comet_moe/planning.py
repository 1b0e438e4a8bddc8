# SPDX-License-Identifier: Apache-2.0
"""plan: what a call would do, without running it."""

from __future__ import annotations

import json
from typing import Any

from comet_moe import _core
from comet_moe._arrays import dense
from comet_moe._types import require_types


class Plan:
    """Rows, tiles, transfers and bytes of all ranks, from the ids alone. Its text is a table."""

    def __init__(self, core: _core.PlanSummary) -> None:
        self._core = core
        #: As `comet plan --json` writes it.
        self.data: dict = json.loads(core.to_json())

    def plot(self, axes: Any = None) -> Any:
        """Draws the bytes that each rank sends to each other one, and its rows. Returns the pair of axes,
        `axes` if given; makes them by matplotlib else."""
        world = self.data["world"]
        if axes is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError("Plan.plot draws with matplotlib: pip install 'comet-moe[plot]'") from error
            _, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
        sent = [[sent_bytes / 1e6 for sent_bytes in row] for row in self.data["dispatch_bytes"]]
        image = axes[0].imshow(sent)
        axes[0].set(title="dispatch, MB", xlabel="to rank", ylabel="from rank", xticks=range(world),
                    yticks=range(world))
        axes[0].figure.colorbar(image, ax=axes[0])
        axes[1].bar(range(world), [rank["rows"] for rank in self.data["ranks"]])
        axes[1].set(title="rows", xlabel="rank", xticks=range(world))
        return axes

    def __repr__(self) -> str:
        return self._core.to_text().rstrip("\n")


def plan(topk_ids: Any, num_experts: int, *, hidden: int, intermediate: int, ep: int = 1, tp: int = 1,
         dtype: str = "bf16", groups: int = 1, block_m: int = 0) -> Plan:
    """What a layer would do with these ids [T, K], of which ep * tp ranks get equal parts.

    hidden, intermediate: H and I. dtype: of a token, "f32", "bf16" or "f16". groups, block_m: of schedule "comet":
    groups of tokens, from 1, and rows of a tile, 0 chooses.
    """
    require_types("plan", {"num_experts": num_experts, "ep": ep, "tp": tp, "hidden": hidden,
                           "intermediate": intermediate, "groups": groups, "block_m": block_m}, {"dtype": dtype})
    return Plan(_core.plan(dense(topk_ids), num_experts, ep=ep, tp=tp, hidden=hidden,
                           intermediate=intermediate, dtype=dtype, groups=groups, block_m=block_m))
