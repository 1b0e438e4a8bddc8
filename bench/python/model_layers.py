# SPDX-License-Identifier: Apache-2.0
"""Experts of Transformers' models with random weights, and what their own routers send them."""

import copy
import dataclasses
import importlib
import math
import zlib

import torch

# Name: class prefix, folder of transformers.models, what its configuration is given, and the same tiny.
MODELS = {
    "qwen3-30b-a3b": ("Qwen3Moe", "qwen3_moe",
                      {"hidden_size": 2048, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
                       "norm_topk_prob": True},
                      {"hidden_size": 64, "moe_intermediate_size": 48, "num_experts": 16}),
    "mixtral-8x7b": ("Mixtral", "mixtral",
                     {"hidden_size": 4096, "intermediate_size": 14336, "num_local_experts": 8,
                      "num_experts_per_tok": 2},
                     {"hidden_size": 64, "intermediate_size": 96}),
    "olmoe-1b-7b": ("Olmoe", "olmoe",
                    {"hidden_size": 2048, "intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8,
                     "norm_topk_prob": False},
                    {"hidden_size": 64, "intermediate_size": 32, "num_experts": 16}),
}


@dataclasses.dataclass(frozen=True)
class Input:
    """What an experts module is called with: hidden [T, H], index and weights [T, K]."""

    hidden: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor

    def arguments(self):
        return self.hidden, self.index, self.weights


class ModelLayer:
    """The experts of one layer, and its router, whose logits are about N(0, 1)."""

    def __init__(self, name, device, dtype, is_tiny):
        prefix, folder, sizes, tiny = MODELS[name]
        module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
        config = getattr(module, f"{prefix}Config")(**{**sizes, **(tiny if is_tiny else {})})
        with torch.device("meta"):
            block = getattr(module, f"{prefix}SparseMoeBlock")(config)
        self.name, self._device, self._dtype = name, device, dtype
        self._generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
        block = block.to(dtype).to_empty(device=device).eval().requires_grad_(False)
        for parameter in block.parameters():  # all have what they sum over last
            parameter.normal_(0, 1 / math.sqrt(parameter.shape[-1]), generator=self._generator)
        self._gate, self._experts = block.gate, block.experts
        self.w13, self.w2 = self._experts.gate_up_proj, self._experts.down_proj
        self.experts, self.hidden, self.inter = self.w2.shape
        self.topk = self._gate.top_k

    def with_implementation(self, implementation):
        """A module with the same weights that always uses this implementation."""
        module = copy.copy(self._experts)
        module.config = copy.copy(self._experts.config)
        module.config._experts_implementation = implementation
        return module

    def make_input(self, tokens):
        """New random tokens, routed by softmax and top-k of the model's router."""
        hidden = torch.randn(tokens, self.hidden, dtype=self._dtype, device=self._device, generator=self._generator)
        _, weights, index = self._gate(hidden)
        return Input(hidden, index, weights)

    def touched_bytes(self, given):
        """Of the weights of experts that any token of `given` has chosen."""
        return int(given.index.unique().numel()) * 3 * self.hidden * self.inter * self.w2.element_size()

    def truth(self, given, rows):
        """What tokens `rows` of `given` should give, in float32 [rows, H]."""
        sums = []
        for t in rows:
            x, total = given.hidden[t].float(), 0
            for expert, weight in zip(given.index[t].tolist(), given.weights[t].float()):
                gate, up = (self.w13[expert].float() @ x).chunk(2)
                total = total + weight * (self.w2[expert].float() @ (torch.nn.functional.silu(gate) * up))
            sums.append(total)
        return torch.stack(sums)
