# SPDX-License-Identifier: Apache-2.0
"""Cases of the NCCL baseline: models, tokens and splits, and whether ranks can share them."""

import dataclasses

import torch

# model: experts, top-k, H, I
MODELS = {
    "mixtral-8x7b": (8, 2, 4096, 14336),
    "qwen2-moe-2.7b": (64, 4, 2048, 1408),
    "phi-3.5-moe": (16, 2, 4096, 6400),
}
TOKENS = (4096, 8192, 16384, 32768, 65536)  # of all ranks together
MAX_RANKS = 8
ALIGNED = 8  # bf16 elements in 16 bytes, of which torch._grouped_mm wants rows to be multiples


class Failure(Exception):
    """What ends the script with one sentence."""


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    tokens: int
    experts: int
    topk: int
    hidden: int
    inter: int
    ep: int
    tp: int

    @property
    def ranks(self):
        return self.ep * self.tp

    @property
    def split(self):
        return self.ep, self.tp

    @property
    def local_experts(self):
        return self.experts // self.ep

    @property
    def local_inter(self):
        return self.inter // self.tp


@dataclasses.dataclass(frozen=True)
class Job:
    """What all ranks are told."""

    device: str
    ranks: int
    port: int
    cases: tuple
    rounds: int
    graphs: bool
    path: str  # of the rows, or None
    run: str
    folder: str  # where a rank that fails says why


def find_model(name):
    """Experts, top-k, H and I of a model, which may be followed by ":" and another top-k."""
    model, _, topk = name.partition(":")
    if model not in MODELS:
        raise Failure(f"--models: '{name}', allowed are {', '.join(MODELS)}, each with :K after it for K experts "
                      "a token")
    experts, own, hidden, inter = MODELS[model]
    if topk and not (topk.isdecimal() and 1 <= int(topk) <= experts):
        raise Failure(f"--models: '{name}', {model} has {experts} experts for a token")
    return experts, int(topk or own), hidden, inter


def fits(ep, tp, experts, inter):
    return experts % ep == 0 and inter % (tp * ALIGNED) == 0


def splits_of(text, ranks, model):
    """EP and TP of each split that is asked for, or of all that fit the model."""
    experts, _, _, inter = find_model(model)
    if text == "auto":
        splits = [(ep, ranks // ep) for ep in range(ranks, 0, -1)
                  if ranks % ep == 0 and fits(ep, ranks // ep, experts, inter)]
        if not splits:
            raise Failure(f"{model} does not split over {ranks} ranks: it has {experts} experts and I = "
                          f"{inter}")
        return splits
    splits = []
    for word in text.split(","):
        ep, by, tp = word.partition("x")
        if not (by and ep.isdecimal() and tp.isdecimal() and int(ep) * int(tp) == ranks):
            raise Failure(f"--splits: '{word}', allowed are auto, or EPxTP with a product of {ranks}")
        if not fits(int(ep), int(tp), experts, inter):
            raise Failure(f"--splits: {model} has {experts} experts and I = {inter}, which '{word}' does "
                          f"not divide (I / TP in multiples of {ALIGNED})")
        splits.append((int(ep), int(tp)))
    return splits


def make_cases(models, tokens, splits, ranks):
    for count in tokens:
        if not (count.isdecimal() and int(count) > 0 and int(count) % ranks == 0):
            raise Failure(f"--tokens: '{count}', allowed are positive multiples of the {ranks} ranks")
    return tuple(Case(model.partition(":")[0], int(count), *find_model(model), ep, tp) for model in models
                 for ep, tp in splits_of(splits, ranks, model) for count in tokens)


def count_ranks(device, wanted):
    there = torch.cuda.device_count() if device == "cuda" else MAX_RANKS
    if there == 0:
        raise Failure("no GPU is there")
    ranks = min(there, MAX_RANKS) if wanted is None else wanted
    if not 1 <= ranks <= MAX_RANKS:
        raise Failure(f"--gpus: {ranks}, allowed are 1 to {MAX_RANKS}")
    if ranks > there:
        raise Failure(f"--gpus: {ranks} asked for, {there} there")
    return ranks
