# SPDX-License-Identifier: Apache-2.0
"""The expert-parallel implementation "comet" of Hugging Face Transformers: a layer of Comet on the processes of an
expert group, and one for calls of few tokens, in place of all-to-all, experts and all-to-all."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from transformers.distributed import expert_parallel

from comet_moe import _core
from comet_moe._errors import InvalidArgumentError
from comet_moe.integrations import transformers as integration
from comet_moe.layer import MoeLayer
from comet_moe.world import World

_worlds: dict[str, World] = {}  # by the name of a group, which torch gives to one only


def world_of_mesh(mesh: Any) -> World:
    """The world of a mesh's processes, on its kind of device, made at its first use, which is collective."""
    group = mesh.get_group()
    if group.group_name not in _worlds:
        backend = "cuda" if mesh.device_type == "cuda" else "cpu"
        _worlds[group.group_name] = World.from_torch_distributed(group, backend=backend)
    world = _worlds[group.group_name]
    if world.rank != mesh.get_local_rank():
        raise InvalidArgumentError(f"[transformers] expert mesh: rank {mesh.get_local_rank()} of it is rank {world.rank} "
                                   "of its group, both orders must be the same")
    return world


def register(name: str) -> None:
    """Adds the implementation to Transformers' registry, if the installed version has one."""
    base = getattr(expert_parallel, "EPImplementation", None)
    registry = getattr(expert_parallel, "EPImplementationInterface", None)
    if base is None or registry is None:
        return

    class CometEP(base):
        """Processes that hold one batch compute a slice of it each, and all get all of it back."""

        def __init__(self, experts: torch.nn.Module, ep_mesh: Any, tp_mesh: Any) -> None:
            super().__init__(experts, ep_mesh, tp_mesh)
            self._run = ExpertParallelLayer(experts, ep_mesh, tp_mesh, self.shares_batch)

        def __call__(self, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                     top_k_weights: torch.Tensor) -> torch.Tensor:
            return self._run(hidden_states, top_k_index, top_k_weights)

    registry.register(name, CometEP)


class ExpertParallelLayer:
    """An experts module of which this process has the weights of its own experts, as a layer on all of its group."""

    def __init__(self, experts: torch.nn.Module, ep_mesh: Any, batch_mesh: Any, is_one_batch: bool) -> None:
        self._experts = experts
        self._layout = integration.layout_of(experts)
        self._world = world_of_mesh(ep_mesh)
        self._ep_group = ep_mesh.get_group()
        # Those who hold the same batch as this process.
        self._group, self._parts, self._part = batch_mesh.get_group(), batch_mesh.size(), batch_mesh.get_local_rank()
        self._is_one_batch = is_one_batch
        self._layers: dict[bool, MoeLayer] = {}  # for few tokens (True) and for more
        self._addresses: tuple[int, int] | None = None

    def __call__(self, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                 top_k_weights: torch.Tensor) -> torch.Tensor:
        tokens = hidden_states.shape[0]
        most = -(-tokens // self._parts)  # of a part; the last ones may have fewer, or none
        rows = slice(min(self._part * most, tokens), min((self._part + 1) * most, tokens))
        agreed = self._agree(most, hidden_states.device)
        layer = self._layer_for(agreed, top_k_index.shape[1])
        own = hidden_states.new_empty(most, hidden_states.shape[1])
        layer(hidden_states[rows], top_k_index[rows], top_k_weights[rows], out=own[:rows.stop - rows.start],
              expected_tokens=agreed * self._world.size)
        if self._parts == 1:
            return own
        gathered = own.new_empty(most * self._parts, own.shape[1])
        distributed.all_gather_into_tensor(gathered, own, group=self._group)
        return gathered[:tokens]

    def _agree(self, tokens: int, device: torch.device) -> int:
        """The most tokens that any process has: all must ask for the same layer."""
        if self._is_one_batch:
            return tokens
        most = torch.tensor(tokens, device=device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX, group=self._ep_group)
        return int(most)

    def _layer_for(self, tokens: int, topk: int) -> MoeLayer:
        w13, w2 = self._experts.gate_up_proj, self._experts.down_proj
        addresses = (w13.data_ptr(), w2.data_ptr())
        if self._addresses != addresses:
            self._layers.clear()  # their end is collective, and in the same order in all processes
            self._addresses = addresses
        most = _core.kept_tokens(tokens)
        is_few = most == _core.kept_tokens(0)  # which fill no tile of a layer for many
        layer = self._layers.get(is_few)
        if layer is None or layer.max_tokens < tokens or layer.topk != topk:
            del layer
            self._layers.pop(is_few, None)  # its end is collective too, and comes before the new one's beginning
            layer = MoeLayer(w13.detach(), w2.detach(), topk=topk, world=self._world, **self._layout,
                             max_tokens=most, num_experts=w13.shape[0] * self._world.size)
            self._layers[is_few] = layer
        return layer
