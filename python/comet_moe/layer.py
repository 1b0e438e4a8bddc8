# SPDX-License-Identifier: Apache-2.0
"""MoeLayer, and moe, which keeps layers by itself."""

from __future__ import annotations

import sys
from typing import Any, Sequence

from comet_moe import _core
from comet_moe._arrays import dense, empty_like, plain
from comet_moe._errors import InvalidArgumentError
from comet_moe._types import require_array, require_types
from comet_moe.trace import Trace
from comet_moe.world import World, default_world, require_world


def listed(weights: Any) -> list[Any]:
    """One array of three axes, or one of two per expert, as a list."""
    return list(weights) if isinstance(weights, (list, tuple)) else [weights]


class MoeLayer:
    """One Mixture-of-Experts layer on a world:

        y[t] = sum over k of topk_weights[t, k] * expert[topk_ids[t, k]](x[t])

    w13: [E, 2 * I, H], or a list of E matrices [2 * I, H] ([I, H] with gate_layout "none"). w2: [E, H, I], or a
    list of E matrices. Of NumPy, PyTorch or, with `out` in calls, anything else that speaks DLPack, rows dense;
    used where they lie, so they may change between calls, not during one. In host memory float32 or bfloat16; on a GPU,
    where the world is of backend "cuda", tensors of PyTorch from 2.10 on, bfloat16 or float16, aligned to 16 bytes.

    On a GPU a call is queued on PyTorch's current stream and waits for nothing, so it may be captured in a CUDA graph
    once the layer has run. What is wrong with ids is known when the call is done: check() or a later call raises it.

    topk: choices of a token. max_tokens: most tokens of a call. ep, tp: how experts are spread, ep * tp is the
    world's size: ep parts of the list of experts, each expert cut into tp slices; ep None is all that tp
    leaves. gate_layout: where gate and up lie in w13: "gate_up" (Hugging Face, vLLM, Megatron), "up_gate",
    "interleaved" (row by row) or "none". weight_position: "after_down", or "before_down" as in Megatron.
    activation: "silu", "gelu" or "relu". workers: threads of each rank; 0 shares out the processor's cores.
    num_experts: E, if w13 and w2 have this process's part only: its rank's experts, the rank // tp-th of ep equal
    parts (the first ones have one more where E is no multiple), and of each the rank % tp-th of tp slices of I.

    Where ranks are processes, all make the layer with the same arguments and call it together.
    """

    def __init__(self, w13: Any, w2: Any, *, topk: int, max_tokens: int, world: World | None = None,
                 ep: int | None = None, tp: int = 1, activation: str = "silu", gate_layout: str = "gate_up",
                 weight_position: str = "after_down", workers: int = 0, num_experts: int = 0) -> None:
        self.world = default_world(next(iter(listed(w13)), None)) if world is None else world
        require_world("layer", self.world)
        require_types("layer", {"topk": topk, "max_tokens": max_tokens, "ep": 1 if ep is None else ep, "tp": tp,
                                "workers": workers, "num_experts": num_experts},
                      {"activation": activation, "gate_layout": gate_layout, "weight_position": weight_position})
        if tp < 1:
            raise InvalidArgumentError(f"[layer] tp: {tp}, from 1")
        self._core = _core.Layer(
            self.world._core, [plain(w) for w in listed(w13)], [plain(w) for w in listed(w2)], topk=topk,
            max_tokens=max_tokens, ep=self.world.size // tp if ep is None else ep, tp=tp,
            activation=activation, gate_layout=gate_layout, weight_position=weight_position, workers=workers,
            num_experts=num_experts)

    stats = property(lambda self: self._core.stats(), doc="Of the last call, a dict per rank here: times in "
                     "microseconds, rows, tiles, bytes over links, and what it ran with: schedule, groups, panel, "
                     "chunk, n_c_dispatch, n_c_combine, placement, waves. On a GPU waits for the call.")
    num_experts = property(lambda self: self._core.num_experts, doc="E.")
    topk = property(lambda self: self._core.topk, doc="K.")
    hidden = property(lambda self: self._core.hidden, doc="H, elements of a token.")
    intermediate = property(lambda self: self._core.intermediate, doc="I, of a whole expert.")
    dtype = property(lambda self: self._core.dtype, doc='"f32", "bf16" or, on a GPU, "f16".')
    ep = property(lambda self: self._core.ep, doc="Parts of the list of experts.")
    tp = property(lambda self: self._core.tp, doc="Slices of each expert.")
    max_tokens = property(lambda self: self._core.max_tokens, doc="Most tokens of a call.")
    workspace_bytes = property(lambda self: self._core.workspace_bytes, doc="Memory of a rank: the world's workspace, "
                               "which all layers share, and what the layer has alone.")

    def __call__(self, x: Any, topk_ids: Any, topk_weights: Any, *, out: Any = None, schedule: str = "auto",
                 groups: int = 0, panel: int = 0, n_c_dispatch: int = -1, n_c_combine: int = -1,
                 placement: str = "warps", waves: int = 0, expected_tokens: int = 0) -> Any:
        """y [T, H], in `out` if given. x: [T, H]. topk_ids: [T, K] int32 or int64, -1 drops a choice.
        topk_weights: [T, K] float32, or bfloat16 or float16 as a router may give them. They are of all ranks in this
        process, which get equal parts.

        schedule: "auto", which is "comet", or "sequential" where one rank alone on a GPU is faster by it; else
        "comet", "sequential", "pipelined" (the same bits, all three) or "reference".

        groups: of tokens for comet, chunks for pipelined. With 0, comet's groups, and panel and n_c_* unless they are
        given, are what the profile named by COMET_PROFILE has measured to be best for so many tokens, or a model of the
        machine predicts (docs/tuning.md); `stats` and explain_choice() say what that was. panel: columns of a panel, 0
        chooses. n_c_dispatch, n_c_combine: workers that communicate in each stage, multiprocessors on a GPU, -1
        chooses. placement, where these are given, on a GPU: whether communication runs on extra "warps" of blocks that
        compute, or on "blocks" of its own. waves, on a GPU: how many waves comet cuts each
        expert's tiles into, 1 to 64, 0 chooses. expected_tokens: about how many all ranks have together, for what
        chooses; 0 is as many as there are or, where ranks are processes, as many as the layer was made for.
        """
        y = empty_like(x) if out is None else out
        run(self._core, x, topk_ids, topk_weights, y, schedule=schedule, groups=groups, panel=panel,
            n_c_dispatch=n_c_dispatch, n_c_combine=n_c_combine, placement=placement, waves=waves,
            expected_tokens=expected_tokens)
        return y

    def trace(self, x: Any, topk_ids: Any, topk_weights: Any, *, out: Any = None, schedule: str = "auto",
              groups: int = 0, panel: int = 0, n_c_dispatch: int = -1, n_c_combine: int = -1,
              placement: str = "warps", waves: int = 0, expected_tokens: int = 0) -> tuple[Any, Trace]:
        """As a call, and what every worker did in it: (y, Trace)."""
        y = empty_like(x) if out is None else out
        events = run(self._core, x, topk_ids, topk_weights, y, schedule=schedule, groups=groups, panel=panel,
                     n_c_dispatch=n_c_dispatch, n_c_combine=n_c_combine, placement=placement, waves=waves,
                     expected_tokens=expected_tokens, trace=True)
        return y, Trace(events)

    def explain_choice(self, tokens: int = 0) -> str:
        """What a call with about so many tokens of all ranks together (0: as many as may be) runs with where its options
        are left to choose, and why, in one sentence."""
        require_types("layer", {"tokens": tokens})
        if tokens < 0:
            raise InvalidArgumentError(f"[layer] tokens: {tokens}, from 0")
        return self._core.explain_choice(tokens)

    def check(self) -> None:
        """Waits on a GPU until the last call is done, and raises what was wrong with it."""
        self._core.stats()

    def __repr__(self) -> str:
        return (f"MoeLayer({self.num_experts} experts, top-{self.topk}, H {self.hidden}, I {self.intermediate}, "
                f"{self.dtype}, ep {self.ep}, tp {self.tp}, up to {self.max_tokens} tokens)")


def run(core: _core.Layer, x: Any, topk_ids: Any, topk_weights: Any, y: Any, *, schedule: str, groups: int,
        panel: int = 0, n_c_dispatch: int = -1, n_c_combine: int = -1, placement: str = "warps",
        waves: int = 0, expected_tokens: int = 0, trace: bool = False) -> Any:
    """Writes y; the events, if they are asked for."""
    try:
        return core.forward(plain(x), dense(topk_ids), dense(topk_weights), plain(y), schedule=schedule, groups=groups,
                            panel=panel, n_c_dispatch=n_c_dispatch, n_c_combine=n_c_combine, placement=placement,
                            waves=waves, expected_tokens=expected_tokens, trace=trace)
    except TypeError:  # types are looked at here, since looking takes time in each call
        require_types("moe", {"groups": groups, "panel": panel, "n_c_dispatch": n_c_dispatch,
                              "n_c_combine": n_c_combine, "waves": waves, "expected_tokens": expected_tokens},
                      {"schedule": schedule, "placement": placement})
        raise


def run_kept(world: World, x: Any, topk_ids: Any, topk_weights: Any, y: Any, w13: Sequence[Any],
             w2: Sequence[Any], ep: int, tp: int, activation: str, gate_layout: str, weight_position: str,
             schedule: str, groups: int) -> None:
    """Writes y by the world's layer with these weights, made if there is none for so many tokens. ep 0 is all
    that tp leaves."""
    world._core.require_own()  # not forked: before its lock, which another thread of the parent may have held
    require_array("x", x)
    require_array("topk_ids", topk_ids)
    require_types("moe", {"ep": ep, "tp": tp},
                  {"activation": activation, "gate_layout": gate_layout, "weight_position": weight_position})
    if len(topk_ids.shape) != 2 or len(x.shape) != 2:
        raise InvalidArgumentError(f"[moe] x and topk_ids: shapes {tuple(x.shape)} and {tuple(topk_ids.shape)}, "
                                   "two axes each are needed")
    with world.lock:
        core = world.kept.find_or_make(x.shape[0], topk_ids.shape[1], [plain(w) for w in w13],
                                       [plain(w) for w in w2], ep, tp, activation, gate_layout, weight_position)
    run(core, x, topk_ids, topk_weights, y, schedule=schedule, groups=groups)


def moe(x: Any, topk_ids: Any, topk_weights: Any, w13: Any | Sequence[Any], w2: Any | Sequence[Any], *,
        world: World | None = None, ep: int | None = None, tp: int = 1, activation: str = "silu",
        gate_layout: str = "gate_up", weight_position: str = "after_down", schedule: str = "auto",
        groups: int = 0, out: Any = None) -> Any:
    """A Mixture-of-Experts layer as a function: y [T, H], in `out` if given. See MoeLayer and its calls for the
    arguments.

    PyTorch's tensors go through the operator torch.ops.comet_moe.moe, so it may be compiled.

    On a world of local ranks; where they are processes, make a MoeLayer, whose size all agree on.

    The world keeps the layers of the last weights that it was called with, and so these weights' memory: 8 layers, and
    more where more are called in turns. Make a MoeLayer to decide about that yourself.
    """
    if ep is not None:  # which 0 stands for from here on
        require_types("moe", {"ep": ep})
        if ep < 1:
            raise InvalidArgumentError(f"[moe] ep: {ep}, from 1")
    if tp != 1:  # as it mostly is, and looking takes time in each call
        require_types("moe", {"tp": tp})
        if tp < 1:
            raise InvalidArgumentError(f"[moe] tp: {tp}, from 1")
    if world is not None:
        require_world("moe", world)
        if not world.is_local:
            raise InvalidArgumentError(f"[moe] world: {world}, needs World.local: make a MoeLayer on this one")
    ops = loaded_torch_ops()
    if ops is not None and out is None and isinstance(x, ops.torch.Tensor):
        return ops.moe(x, topk_ids, topk_weights, w13, w2, world, ep, tp, activation, gate_layout,
                       weight_position, schedule, groups)
    if world is None:
        world = default_world(x)
    y = empty_like(x) if out is None else out
    run_kept(world, x, topk_ids, topk_weights, y, listed(w13), listed(w2), 0 if ep is None else ep, tp, activation,
             gate_layout, weight_position, schedule, groups)
    return y


_torch_ops: Any = None


def loaded_torch_ops() -> Any:
    """The module comet_moe.torch_ops, if the program uses PyTorch."""
    global _torch_ops
    if _torch_ops is None and "torch" in sys.modules:
        from comet_moe import torch_ops  # a statement, which torch.compile can trace
        _torch_ops = torch_ops
    return _torch_ops
