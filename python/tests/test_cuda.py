# SPDX-License-Identifier: Apache-2.0
"""Tensors on a Hopper GPU; skipped where there is none, or a build without CUDA."""

import os

import numpy
import pytest

# Read when CUDA starts, which PyTorch does here: ranks' streams must not share queues.
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
torch = pytest.importorskip("torch")

import comet_moe  # noqa: E402
from conftest import Case  # noqa: E402

HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
IS_BUILT = any(backend["name"] == "cuda" and backend["built"] for backend in comet_moe.doctor()["backends"])
pytestmark = pytest.mark.skipif(not (HAS_GPU and IS_BUILT), reason="no Hopper GPU, or a build without CUDA")


def make_case(dtype=torch.bfloat16, tokens=200, seed=1, **sizes):
    """A Case of numbers that `dtype` has, and its tensors on the GPU."""
    case = Case(tokens=tokens, hidden=256, inter=128, seed=seed, **sizes)
    tensors = [torch.from_numpy(array).cuda() for array in case.arguments()]
    for i in (0, 3, 4):
        tensors[i] = tensors[i].to(dtype)
    case.x, case.w13, case.w2 = (tensors[i].float().cpu().numpy() for i in (0, 3, 4))
    return case, tensors


def expect_near(y, case):
    """Activations, products and y are rounded to 8 bits once each."""
    truth = case.truth()
    numpy.testing.assert_allclose(y.float().cpu().numpy(), truth, rtol=0.03, atol=0.03 * abs(truth).max(initial=0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ranks", [1, 2])
def test_routing_weights_of_16_bits_are_computed_with_as_float32(dtype, ranks):
    world = comet_moe.World.local(ranks, backend="cuda")
    _, (x, ids, weights, w13, w2) = make_case()
    weights = weights.to(dtype)
    y = comet_moe.moe(x, ids, weights, w13, w2, world=world)
    assert torch.equal(y, comet_moe.moe(x, ids, weights.float(), w13, w2, world=world))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ranks, tp", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_tensors_give_tensors_near_the_truth(dtype, ranks, tp):
    world = comet_moe.World.local(ranks, backend="cuda")
    for tokens in (200, 1, 0):
        case, tensors = make_case(dtype, tokens=tokens, seed=tokens + ranks)
        y = comet_moe.moe(*tensors, world=world, tp=tp)
        assert y.is_cuda and y.dtype == dtype and y.shape == tensors[0].shape
        expect_near(y, case)


@pytest.mark.parametrize("schedule", ["sequential", "pipelined", "comet"])
@pytest.mark.parametrize("ranks", [1, 4])
def test_schedules_agree_bit_for_bit(ranks, schedule):
    world = comet_moe.World.local(ranks, backend="cuda")
    _, tensors = make_case()
    one = comet_moe.moe(*tensors, world=world, schedule="sequential")
    for _ in range(5):
        assert torch.equal(comet_moe.moe(*tensors, world=world, schedule=schedule), one)


def test_calls_say_what_they_ran_with():
    world = comet_moe.World.local(2, backend="cuda", link="paced:20")
    _, (x, ids, weights, w13, w2) = make_case()
    layer = comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=256, world=world)
    given = {"groups": 2, "n_c_dispatch": 1, "n_c_combine": 3, "placement": "blocks", "waves": 3}
    y = layer(x, ids, weights, **given)
    assert all({key: rank[key] for key in given} == given for rank in layer.stats)
    assert torch.equal(layer(x, ids, weights), y)
    chosen = layer.stats[0]
    assert chosen["schedule"] == "comet" and chosen["groups"] >= 1 and chosen["panel"] > 0
    assert f"groups {chosen['groups']}, " in layer.explain_choice(x.shape[0])


def test_views_lists_and_padded_rows_are_read_where_they_lie():
    case, (x, ids, weights, w13, w2) = make_case()
    wide = torch.zeros(x.shape[0], x.shape[1] + 64, dtype=x.dtype, device="cuda")
    wide[:, :-64] = x
    padded = torch.zeros(*w2.shape[:2], w2.shape[2] + 8, dtype=x.dtype, device="cuda")
    padded[:, :, :-8] = w2
    before = torch.cuda.memory_allocated()
    y = comet_moe.moe(wide[:, :-64], ids.long(), weights.T.contiguous().T, list(w13), padded[:, :, :-8])
    expect_near(y, case)
    del y
    assert torch.cuda.memory_allocated() == before  # nothing of PyTorch's is kept, so no copy of weights


@pytest.mark.parametrize("ranks", [1, 2])
def test_calls_run_on_the_current_stream(ranks):
    """What makes x is slow and on a stream of its own; what reads y follows at once."""
    case, (x, ids, weights, w13, w2) = make_case(tokens=512)
    layer = comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=512, world=comet_moe.World.local(ranks, backend="cuda"))
    layer(x, ids, weights)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    for stream in (side, torch.cuda.current_stream()):
        with torch.cuda.stream(stream):
            late = torch.zeros_like(x)
            torch.cuda._sleep(50_000_000)
            late.copy_(x)
            y = layer(late, ids, weights)
            copy = y.clone()
        stream.synchronize()
        expect_near(copy, case)
        layer.check()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_captured_graph_replays_with_other_tokens(ranks):
    case, (x, ids, weights, w13, w2) = make_case()
    layer = comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=200, world=comet_moe.World.local(ranks, backend="cuda"))
    layer(x, ids, weights)
    layer.check()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        y = layer(x, ids, weights)
    for seed in (5, 6):
        other, (new_x, new_ids, new_weights, _, _) = make_case(seed=seed)
        x.copy_(new_x), ids.copy_(new_ids), weights.copy_(new_weights)
        other.w13, other.w2 = case.w13, case.w2
        graph.replay()
        torch.cuda.synchronize()
        expect_near(y, other)


def test_the_operator_compiles_and_is_captured():
    world = comet_moe.World.local(1, backend="cuda")
    case, tensors = make_case()

    def block(*arguments):
        return comet_moe.moe(*arguments, world=world) + 1

    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(*tensors), block(*tensors))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = block(*tensors)
        graph.replay()
        torch.cuda.synchronize()
    expect_near(y - 1, case)


def test_bad_ids_are_raised_by_check_and_the_world_goes_on():
    case, (x, ids, weights, w13, w2) = make_case()
    layer = comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=200, world=comet_moe.World.local(2, backend="cuda"))
    y = layer(x, torch.full_like(ids, 99), weights)
    with pytest.raises(IndexError, match="99"):
        layer.check()
    assert y.isnan().all()
    expect_near(layer(x, ids, weights), case)
    layer.check()


def test_places_and_types_that_do_not_fit_are_one_sentence():
    _, (x, ids, weights, w13, w2) = make_case()
    for arguments, words in (((x, ids.cpu(), weights, w13, w2), "topk_ids: lies on the host, the world computes on GPU 0"),
                             ((x, ids, weights, w13.cpu(), w2), "w13: lies on the host"),
                             ((x, ids, weights, w13, list(w2.cpu())), "w2: lies on the host")):
        with pytest.raises(ValueError, match=words):
            comet_moe.moe(*arguments)
    with pytest.raises(ValueError, match="x: lies on GPU 0, the world computes on the host|w13: lies on GPU 0"):
        comet_moe.moe(x, ids, weights, w13, w2, world=comet_moe.World.local(1))
    with pytest.raises(NotImplementedError, match="f32.*bf16 or f16"):
        comet_moe.moe(x.float(), ids, weights, w13.float(), w2.float())


def test_layer_tells_what_it_did_on_each_rank():
    _, (x, ids, weights, w13, w2) = make_case()
    world = comet_moe.World.local(2, backend="cuda")
    assert world.backend == "cuda" and "cuda" in repr(world)
    layer = comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=200, world=world)
    y, trace = layer.trace(x, ids, weights)
    assert torch.equal(y, layer(x, ids, weights))
    assert {event.rank for event in trace.events} == {0, 1} and trace.milliseconds > 0
    assert sum(rank["rows"] for rank in layer.stats) == 400
    assert all(rank["t_layer_us"] > 0 for rank in layer.stats)


def test_models_of_transformers_give_the_logits_of_eager():
    transformers = pytest.importorskip("transformers")
    from comet_moe.integrations.transformers import enable
    from tiny_models import make_model
    enable()
    for name in ("Mixtral", "Qwen3Moe"):
        model, prompt = make_model(name, torch.bfloat16)
        model, prompt = model.cuda(), prompt.cuda()
        logits = {}
        with torch.no_grad():
            for implementation in ("eager", "comet"):
                model.set_experts_implementation(implementation)
                logits[implementation] = model(prompt).logits.float()
        assert (logits["comet"] - logits["eager"]).abs().max() <= 0.03 * logits["eager"].abs().max()
    assert transformers.__version__
