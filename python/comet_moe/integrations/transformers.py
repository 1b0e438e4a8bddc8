# SPDX-License-Identifier: Apache-2.0
"""Hugging Face Transformers: enable() registers the experts implementation "comet".

    from comet_moe.integrations.transformers import enable
    enable()
    model = AutoModelForCausalLM.from_pretrained(name, experts_implementation="comet")

It serves models whose experts are gated, without biases, and lie in gate_up_proj [E, 2 * I, H] and down_proj
[E, H, I]: Mixtral, Qwen2-MoE, Qwen3-MoE, Phi-3.5-MoE, OLMoE, DeepSeek-V3 and their like. Inference only.

With expert parallelism under torchrun each process computes its experts by Comet, whatever brings it the tokens. Where
Transformers has a registry for that too, Comet does both in one, overlapped, on processes of one host:

    DistributedConfig(tp_size=4, ep_size=4, ep_implementation="comet")
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import weakref

import torch

import comet_moe
from comet_moe._errors import UnsupportedError
from comet_moe.world import World, default_world, require_world

NAME = "comet"
_LEAST_VERSION = (5, 7)  # the first whose registry takes names of third parties

_ACTIVATIONS = {"SiLUActivation": "silu", "SiLU": "silu", "GELUActivation": "gelu", "ReLU": "relu"}

_world: World | None = None
_addresses: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of the weights of modules that were called


def _refuse(module: torch.nn.Module, reason: str) -> None:
    raise UnsupportedError(f"[transformers] {type(module).__name__}: {reason}; choose another experts_implementation")


def _activation_of(module: torch.nn.Module) -> str:
    function = getattr(module, "act_fn", None)
    name = _ACTIVATIONS.get(type(function).__name__)
    is_exact = not isinstance(function, torch.nn.GELU) or function.approximate == "none"
    if name is None or not is_exact:
        _refuse(module, f"its activation is {type(function).__name__}, there are SiLU, exact GELU and ReLU")
    return name


def _check(module: torch.nn.Module) -> None:
    """Raises UnsupportedError with the reason if the module computes something else than a Comet layer."""
    if not module.has_gate:
        _refuse(module, "its experts have no gate")
    if module.has_bias:
        _refuse(module, "its experts have biases")
    if module.is_transposed:
        _refuse(module, "its weights are stored transposed")
    if getattr(module, "has_post_expert_norm", False):
        _refuse(module, "it normalises what an expert returns")
    if getattr(type(module)._apply_gate, "__name__", "") != "_default_apply_gate":
        _refuse(module, "it has a gate of its own kind")


def comet_experts_forward(module: torch.nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                          top_k_weights: torch.Tensor) -> torch.Tensor:
    """y [T, H] of an experts module: hidden_states [T, H], top_k_index and top_k_weights [T, K]."""
    layout = layout_of(module)
    w13 = module.gate_up_proj
    if not torch.compiler.is_compiling():
        _forget_with(module, w13.data_ptr(), default_world(hidden_states) if _world is None else _world)
    if _may_be_parallel(module):  # ids of other processes' experts are above all of this one's
        top_k_index = top_k_index.masked_fill(top_k_index >= w13.shape[0], -1)
    return comet_moe.moe(hidden_states, top_k_index, top_k_weights, w13, module.down_proj, world=_world,
                         **layout)


def _may_be_parallel(module: torch.nn.Module) -> bool:
    """Whether tokens may come with other processes' experts. Versions that do not say so change the forward of a
    module that they spread, or hook it."""
    is_changed = "forward" in vars(module) or bool(module._forward_pre_hooks) or bool(module._forward_hooks)
    return getattr(module, "_is_expert_parallel", is_changed)


def _forget_with(module: torch.nn.Module, address: int, world: World) -> None:
    """Has the world drop the layers that it keeps for a module with these weights, and so the weights, when the module
    is gone."""
    if _addresses.get(module) != address:
        _addresses[module] = address
        weakref.finalize(module, world.kept.forget, address).atexit = False


def layout_of(module: torch.nn.Module) -> dict[str, str]:
    """An experts module's activation and gate_layout, as MoeLayer takes them; UnsupportedError with the reason if it
    computes something else than a Comet layer."""
    _check(module)
    return {"activation": _activation_of(module),
            "gate_layout": "gate_up" if module.is_concatenated else "interleaved"}


def enable(world: World | None = None) -> None:
    """Registers the experts implementation "comet", on `world` of local ranks or, without one, on one of one rank, and
    the expert-parallel implementation "comet" where Transformers has a registry for those. Raises UnsupportedError if
    the installed Transformers has none for experts."""
    global _world
    if world is not None:
        require_world("transformers", world)
    version = importlib.metadata.version("transformers")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < _LEAST_VERSION:
        raise UnsupportedError(f"[transformers] version: {version}, needs "
                               f"{'.'.join(map(str, _LEAST_VERSION))} or later")
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError as error:
        raise UnsupportedError(f"[transformers] version: {version} has no "
                               "transformers.integrations.moe.ALL_EXPERTS_FUNCTIONS, which this integration "
                               "registers with") from error
    _world = world
    ALL_EXPERTS_FUNCTIONS.register(NAME, comet_experts_forward)
    if importlib.util.find_spec("transformers.distributed.expert_parallel") is not None:
        from comet_moe.integrations import transformers_ep
        transformers_ep.register(NAME)
