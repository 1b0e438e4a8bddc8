# SPDX-License-Identifier: Apache-2.0
"""Makes the small checkpoints that the loader's and the router's tests read.

Each directory holds a random two-layer model as transformers itself writes it (config.json and
safetensors) and an io.safetensors with what the model's own MoE block answers:
x [T,H] and, for each layer N: y.N [T,H], topk_ids.N int64 [T,K], topk_weights.N [T,K],
router_logits.N [T,E]. Before a directory counts as made, it is read back from disk and y, the ids
and the weights are worked out again here from the stored tensors, without transformers.

Needs torch, transformers 5 and safetensors; a CPU does.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import platform
import shutil
import sys
import traceback
import zlib

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file

NUM_LAYERS = 2
NUM_TOKENS = 13
MIN_LOGIT_MARGIN = 1e-3  # no routing decision may hang on float32 rounding
REL_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Spec:
    """One model: its classes, its config beyond the common part, and which forms are written."""

    name: str
    family: str  # the router's rule: mixtral, qwen or phimoe
    config_class: str
    model_class: str
    num_experts: int
    top_k: int
    extra: dict
    also_other_form: bool = False  # per-expert and fused names, each in its own directory
    also_sharded: bool = False


def make_specs(hidden: int) -> list[Spec]:
    """Sizes keep the ratios 96/48/80 to 64, so that no two matrix sizes are equal."""
    dense = {"intermediate_size": hidden * 3 // 2}
    qwen = {**dense, "moe_intermediate_size": hidden * 3 // 4, "num_experts": 12}
    qwen2 = {**qwen, "shared_expert_intermediate_size": hidden * 5 // 4}
    local = {**dense, "num_local_experts": 8}
    qwen2_classes = ("Qwen2MoeConfig", "Qwen2MoeForCausalLM", 12, 4)
    return [
        Spec("mixtral", "mixtral", "MixtralConfig", "MixtralForCausalLM", 8, 2, local, True, True),
        Spec("qwen2_moe", "qwen", *qwen2_classes, {**qwen2, "norm_topk_prob": False}, True),
        Spec("qwen2_moe_norm", "qwen", *qwen2_classes, {**qwen2, "norm_topk_prob": True}),
        Spec("qwen3_moe", "qwen", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", 12, 4,
             {**qwen, "norm_topk_prob": True}),
        Spec("phimoe", "phimoe", "PhimoeConfig", "PhimoeForCausalLM", 8, 2,
             {**local, "router_jitter_noise": 0.01, "input_jitter_noise": 0.0}, True),
    ]  # fmt: skip


def check(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


# --- building -------------------------------------------------------------------------------------


def moe_block(model: torch.nn.Module, layer: int) -> torch.nn.Module:
    decoder_layer = model.model.layers[layer]
    for attribute in ("mlp", "block_sparse_moe"):
        block = getattr(decoder_layer, attribute, None)
        if block is not None and hasattr(block, "experts"):
            return block
    raise RuntimeError(f"layer {layer} of {type(model).__name__} has no MoE block")


def router_module(block: torch.nn.Module) -> torch.nn.Module:
    return block.router if hasattr(block, "router") else block.gate


def fill_weights(model: torch.nn.Module, spec: Spec, generator: torch.Generator) -> None:
    """Scales keep y of order 1 and the router logits' spread near 2."""
    for layer in range(NUM_LAYERS):
        block = moe_block(model, layer)
        for name, parameter in sorted(block.named_parameters()):
            scale = 2.0 if name.startswith(("gate.", "router.")) else 1.5
            std = scale / parameter.shape[-1] ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        if spec.family == "phimoe":  # near-equal logits, so that its sparsity mask keeps several
            rows = router_module(block).weight
            for expert in range(spec.num_experts):
                if expert % 3:
                    rows[expert] = rows[expert - expert % 3] + 0.04 * rows[expert]


def build_model(spec: Spec, hidden: int, seed: int) -> torch.nn.Module:
    config = getattr(transformers, spec.config_class)(
        hidden_size=hidden,
        vocab_size=32,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        hidden_act="silu",
        tie_word_embeddings=False,
        num_experts_per_tok=spec.top_k,
        bos_token_id=1,
        eos_token_id=2,
        **spec.extra,
    )
    config._experts_implementation = "eager"
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = getattr(transformers, spec.model_class)(config).to(torch.float32).eval()
    check(model.config._experts_implementation == "eager", "the experts do not run eagerly")
    fill_weights(model, spec, torch.Generator().manual_seed(seed + zlib.crc32(spec.name.encode())))
    return model


def make_input(model: torch.nn.Module, spec: Spec, hidden: int, seed: int) -> torch.Tensor:
    """Draws x; phimoe's last two tokens point away from all experts (negative logits), since its
    rule treats a negative maximum differently."""
    x = torch.randn(NUM_TOKENS, hidden, generator=torch.Generator().manual_seed(seed))
    if spec.family == "phimoe":
        for layer in range(NUM_LAYERS):
            rows = router_module(moe_block(model, layer)).weight
            away = -torch.nn.functional.normalize(rows, dim=-1).sum(0)
            token = NUM_TOKENS - NUM_LAYERS + layer
            x[token] = away * hidden**0.5 / away.norm() + 0.3 * x[token]
    return x


def run_block(model: torch.nn.Module, layer: int, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Runs the model's own MoE block and catches what its own router answered."""
    block = moe_block(model, layer)
    caught = []
    handle = router_module(block).register_forward_hook(lambda _m, _i, out: caught.append(out))
    y = block(x.clone()[None])
    handle.remove()
    y = y[0][0] if isinstance(y, tuple) else y[0]
    check(len(caught) == 1 and isinstance(caught[0], tuple), "the router gave no tuple")
    num_experts = router_module(block).weight.shape[0]
    found = {"y": y}
    for item in caught[0]:
        if not item.is_floating_point():
            found["topk_ids"] = item.to(torch.int64)
        elif item.shape[-1] == num_experts:
            found["router_logits"] = item
        else:
            found["topk_weights"] = item.to(torch.float32)
    check(len(found) == 4, f"the router's answer has unknown parts: {sorted(found)}")
    return {f"{key}.{layer}": value.contiguous() for key, value in found.items()}


def routing_margin(spec: Spec, logits: torch.Tensor) -> float:
    """Returns the smallest distance of any token to another routing decision."""
    ranked = logits.sort(-1, descending=True).values
    margin = (ranked[:, : spec.top_k] - ranked[:, 1 : spec.top_k + 1]).min().item()
    if spec.family == "phimoe":
        for rank in range(2):
            top = ranked[:, rank : rank + 1]
            gap = (top - ranked[:, rank + 1 :]) / torch.maximum(ranked[:, rank + 1 :].abs(), top)
            bound = 2 * spec.extra["router_jitter_noise"]
            margin = min(margin, (gap - bound).abs().min().item())
    return margin


def phimoe_is_covered(io: dict[str, torch.Tensor]) -> bool:
    """In each layer a negative maximum, a weight below 1 and a weight of 1 must occur."""
    for layer in range(NUM_LAYERS):
        weights = io[f"topk_weights.{layer}"]
        negative = (io[f"router_logits.{layer}"] < 0).all(-1)
        mixed = (weights.amin(0) < 0.9).all() and (weights.amax(0) == 1).all()
        if not (negative.any() and mixed):
            return False
    return True


def make_io(model: torch.nn.Module, spec: Spec, hidden: int, seed: int) -> dict[str, torch.Tensor]:
    """Takes the first x, counting up from seed, whose routing is well away from any tie."""
    for x_seed in range(seed, seed + 1000):
        io = {"x": make_input(model, spec, hidden, x_seed)}
        for layer in range(NUM_LAYERS):
            io.update(run_block(model, layer, io["x"]))
        margins = [routing_margin(spec, io[f"router_logits.{n}"]) for n in range(NUM_LAYERS)]
        if min(margins) < MIN_LOGIT_MARGIN:
            continue
        if spec.family != "phimoe" or phimoe_is_covered(io):
            return io
    raise RuntimeError("no input found whose routing is clear of ties and covers the rule")


# --- the other form of the names ------------------------------------------------------------------


def expert_names(spec: Spec) -> tuple[str, str, str, str]:
    """Returns the block's name and the gate, up and down matrices' in per-expert checkpoints."""
    if spec.family == "qwen":
        return "mlp", "gate_proj", "up_proj", "down_proj"
    return "block_sparse_moe", "w1", "w3", "w2"


def per_expert_form(spec: Spec, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Splits fused expert tensors into one gate, up and down matrix an expert."""
    block, gate, up, down = expert_names(spec)
    result = {}
    for name, tensor in tensors.items():
        prefix = name.replace(".mlp.", f".{block}.").replace(f"{block}.router.", f"{block}.gate.")
        if name.endswith(".experts.gate_up_proj"):
            stem = prefix.removesuffix("gate_up_proj")
            for expert, matrix in enumerate(tensor):
                for part, half in zip((gate, up), matrix.chunk(2)):
                    result[f"{stem}{expert}.{part}.weight"] = half.clone()
        elif name.endswith(".experts.down_proj"):
            stem = prefix.removesuffix("down_proj")
            for expert, matrix in enumerate(tensor):
                result[f"{stem}{expert}.{down}.weight"] = matrix.clone()
        else:
            result[prefix] = tensor.clone()
    return result


def save_other_form(model: torch.nn.Module, spec: Spec, out: pathlib.Path) -> pathlib.Path:
    """Writes the form of expert names which save_pretrained did not choose for out/<name>."""
    written = read_checkpoint(out / spec.name)
    if any(name.endswith(".experts.gate_up_proj") for name in written):
        other = out / f"{spec.name}_hub"
        model.config.save_pretrained(other)
        save_file(per_expert_form(spec, written), other / "model.safetensors", {"format": "pt"})
    else:
        other = out / f"{spec.name}_fused"
        model.save_pretrained(other, save_original_format=False)
    return other


# --- checking what lies on disk -------------------------------------------------------------------


def read_checkpoint(directory: pathlib.Path) -> dict[str, torch.Tensor]:
    index = directory / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    tensors = {}
    for file in files:
        tensors.update(load_file(directory / file))
    return tensors


def read_layer(directory: pathlib.Path, layer: int) -> dict[str, torch.Tensor]:
    """Returns one layer's MoE tensors by their names within the block."""
    tensors = {}
    for name, tensor in read_checkpoint(directory).items():
        for block in ("mlp", "block_sparse_moe"):
            prefix = f"model.layers.{layer}.{block}."
            if name.startswith(prefix):
                tensors[name.removeprefix(prefix)] = tensor
    return tensors


def expert_matrices(spec: Spec, tensors: dict, expert: int) -> list[torch.Tensor]:
    """Returns an expert's gate [I,H], up [I,H] and down [H,I], from either form."""
    if "experts.gate_up_proj" in tensors:
        gate, up = tensors["experts.gate_up_proj"][expert].chunk(2)
        return [gate, up, tensors["experts.down_proj"][expert]]
    _, *parts = expert_names(spec)
    return [tensors[f"experts.{expert}.{part}.weight"] for part in parts]


def run_ffn(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor):
    before = x @ gate.T
    return (before * torch.sigmoid(before) * (x @ up.T)) @ down.T


def route_phimoe(logits: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    ids, weights = [], []
    taken = torch.zeros_like(logits, dtype=torch.bool)
    for _ in range(2):
        top, best = logits.masked_fill(taken, -torch.inf).max(-1, keepdim=True)
        dropped = (top - logits) / torch.maximum(logits.abs(), top) > 2 * eps
        kept = ~(dropped | taken)
        weights.append(1 / ((logits - top).exp() * kept).sum(-1, keepdim=True))
        ids.append(best)
        taken = taken.scatter(-1, best, True)
    return torch.cat(ids, -1), torch.cat(weights, -1)


def route(spec: Spec, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids [T,K] and weights [T,K] by the family's rule, written out here once more."""
    if spec.family == "phimoe":
        return route_phimoe(logits, spec.extra["router_jitter_noise"])
    powers = (logits - logits.amax(-1, keepdim=True)).exp()
    ids = logits.argsort(-1, descending=True)[:, : spec.top_k]
    chosen = powers.gather(-1, ids)
    normalise = spec.family == "mixtral" or spec.extra["norm_topk_prob"]
    return ids, chosen / (chosen if normalise else powers).sum(-1, keepdim=True)


def check_close(what: str, actual: torch.Tensor, expected: torch.Tensor) -> None:
    error = ((actual - expected).abs().max() / expected.abs().max()).item()
    check(error <= REL_TOLERANCE, f"{what} is off by {error:.2e} relative, allowed {REL_TOLERANCE}")


def check_layer(spec: Spec, directory: pathlib.Path, layer: int) -> None:
    """Works a layer out again in float64 from the files alone and compares."""
    tensors = {name: t.double() for name, t in read_layer(directory, layer).items()}
    io = load_file(directory / "io.safetensors")
    logits, y, ids, weights = (
        io[f"{key}.{layer}"] for key in ("router_logits", "y", "topk_ids", "topk_weights")
    )
    check(ids.dtype == torch.int64 and ids.shape == (NUM_TOKENS, spec.top_k), "ids are malformed")
    check(weights.dtype == torch.float32 and weights.shape == ids.shape, "weights are malformed")
    x = io["x"].double()
    gate = tensors["router.weight" if "router.weight" in tensors else "gate.weight"]
    check_close(f"router_logits.{layer}", logits.double(), x @ gate.T)
    own_ids, own_weights = route(spec, x @ gate.T)
    check(torch.equal(own_ids, ids), f"topk_ids.{layer} do not follow the rule of {spec.family}")
    check_close(f"topk_weights.{layer}", weights.double(), own_weights)
    expected = torch.zeros_like(x)
    for expert in range(spec.num_experts):
        amount = ((ids == expert) * weights.double()).sum(-1, keepdim=True)
        expected += amount * run_ffn(x, *expert_matrices(spec, tensors, expert))
    if "shared_expert.gate_proj.weight" in tensors:
        parts = (tensors[f"shared_expert.{p}_proj.weight"] for p in ("gate", "up", "down"))
        opening = torch.sigmoid(x @ tensors["shared_expert_gate.weight"].T)
        expected += opening * run_ffn(x, *parts)
    check_close(f"y.{layer}", y.double(), expected)


def check_reload(spec: Spec, directory: pathlib.Path) -> None:
    """transformers itself must read the directory and answer the same."""
    model = getattr(transformers, spec.model_class).from_pretrained(
        directory, dtype=torch.float32, experts_implementation="eager", attn_implementation="eager"
    )
    io = load_file(directory / "io.safetensors")
    for layer in range(NUM_LAYERS):
        again = run_block(model.eval(), layer, io["x"])
        check_close(f"reloaded y.{layer}", again[f"y.{layer}"], io[f"y.{layer}"])


def summary(directory: pathlib.Path, layer: int) -> str:
    names = sorted(read_layer(directory, layer))
    short = []
    for name in names:  # experts other than 0 repeat the same names
        parts = name.split(".")
        if parts[0] != "experts" or not parts[1].isdigit() or parts[1] == "0":
            short.append(name.replace("experts.0.", "experts.E."))
    files = list(directory.iterdir())
    io = load_file(directory / "io.safetensors")
    return (
        f"{directory.name}: layer {layer} has {len(names)} MoE tensors ({', '.join(short)}), "
        f"{io['x'].shape[0]} tokens, max|y| {io[f'y.{layer}'].abs().max():.3f}, "
        f"{sum(file.name.endswith('.safetensors') for file in files) - 1} weight file(s), "
        f"{sum(file.stat().st_size for file in files) / 1e3:.0f} kB"
    )


# --- main -----------------------------------------------------------------------------------------


def make_model_directories(spec: Spec, out: pathlib.Path, hidden: int, seed: int) -> None:
    for suffix in ("", "_sharded", "_fused", "_hub"):
        shutil.rmtree(out / f"{spec.name}{suffix}", ignore_errors=True)
    model = build_model(spec, hidden, seed)
    io = make_io(model, spec, hidden, seed)
    directories = [out / spec.name]
    model.save_pretrained(directories[0])
    if spec.also_sharded:
        directories.append(out / f"{spec.name}_sharded")
        model.save_pretrained(directories[-1], max_shard_size="100KB")
        index = directories[-1] / "model.safetensors.index.json"
        check(index.exists(), "the sharded checkpoint has no index")
    if spec.also_other_form:
        directories.append(save_other_form(model, spec, out))
    for directory in directories:
        (directory / "generation_config.json").unlink(missing_ok=True)
        save_file(io, directory / "io.safetensors")
        for file in directory.iterdir():
            file.chmod(0o644)  # safetensors writes files that only their owner can read
        for layer in range(NUM_LAYERS):
            check_layer(spec, directory, layer)
        check_reload(spec, directory)
        print(summary(directory, NUM_LAYERS - 1), flush=True)


def write_versions(out: pathlib.Path, seed: int) -> None:
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
        "date": datetime.date.today().isoformat(),
        "seed": seed,
    }
    (out / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default="tests/data/checkpoints")
    parser.add_argument("--hidden", type=int, default=32, help="H, a multiple of 8")
    parser.add_argument("--seed", type=int, default=20250)
    parser.add_argument("--only", nargs="*", help="names of the models to make; all by default")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failed = []
    for spec in make_specs(arguments.hidden):
        if arguments.only and spec.name not in arguments.only:
            continue
        try:
            make_model_directories(spec, out, arguments.hidden, arguments.seed)
        except Exception:  # one model's trouble must not hide the others'
            traceback.print_exc()
            failed.append(spec.name)
    write_versions(out, arguments.seed)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
