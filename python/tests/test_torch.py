# SPDX-License-Identifier: Apache-2.0
"""The operator of PyTorch; skipped where there is none."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad  # noqa: E402

import comet_moe  # noqa: E402
from conftest import Case, expect_close  # noqa: E402


def tensors(case, dtype=torch.float32):
    return (torch.from_numpy(case.x).to(dtype), torch.from_numpy(case.ids), torch.from_numpy(case.weights),
            torch.from_numpy(case.w13).to(dtype), torch.from_numpy(case.w2).to(dtype))


def op_arguments(case, world):
    x, ids, weights, w13, w2 = tensors(case)
    return (x, ids, weights, [w13], [w2], world.handle, 0, 1, "silu", "gate_up", "after_down", "comet", 0)


def test_tensors_give_tensors():
    case = Case()
    y = comet_moe.moe(*tensors(case), world=comet_moe.World.local(2))
    assert isinstance(y, torch.Tensor) and y.dtype == torch.float32
    expect_close(y.numpy(), case.truth())


def test_bfloat16_is_near_the_truth_of_rounded_numbers():
    case = Case()
    x, ids, weights, w13, w2 = tensors(case, torch.bfloat16)
    case.x, case.w13, case.w2 = (t.float().numpy() for t in (x, w13, w2))
    y = comet_moe.moe(x, ids, weights, w13, w2)
    assert y.dtype == torch.bfloat16
    numpy.testing.assert_allclose(y.float().numpy(), case.truth(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_routing_weights_of_16_bits_are_computed_with_as_float32(dtype):
    x, ids, weights, w13, w2 = tensors(Case())
    weights = weights.to(dtype)
    y = comet_moe.moe(x, ids, weights, w13, w2)
    assert torch.equal(y, comet_moe.moe(x, ids, weights.float(), w13, w2))


def test_lists_of_parameters_and_strided_metadata():
    case = Case()
    x, ids, weights, w13, w2 = tensors(case)
    parameters = [torch.nn.Parameter(w, requires_grad=False) for w in w13]
    with torch.no_grad():
        y = comet_moe.moe(x, ids.T.contiguous().T.long(), weights.T.contiguous().T, parameters, list(w2))
    expect_close(y.numpy(), case.truth())


def test_gradients_are_refused():
    case = Case()
    x, ids, weights, w13, w2 = tensors(case)
    w2.requires_grad_()
    with pytest.raises(ValueError, match="requires_grad.*no_grad"):
        comet_moe.moe(x, ids, weights, w13, w2)
    with pytest.raises(ValueError, match="requires_grad.*no_grad"):
        comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=64)
    with torch.no_grad():
        expect_close(comet_moe.moe(x, ids, weights, w13, w2).numpy(), case.truth())


def test_transforms_are_refused():
    """As they would take the layer for a constant, whose gradients are 0."""
    case = Case()
    x, *others = tensors(case)
    for transform in (lambda call: torch.func.grad(lambda x: call(x).sum())(x),
                      lambda call: torch.func.jvp(call, (x,), (x,)), lambda call: torch.func.vmap(call)(x[None])):
        with pytest.raises(NotImplementedError, match="torch.func: grad, jvp, vmap"):
            transform(lambda x: comet_moe.moe(x, *others))
    expect_close(comet_moe.moe(x, *others).numpy(), case.truth())


def test_tangents_are_refused():
    """As they would be dropped, and what comes of them taken for 0."""
    case = Case()
    x, ids, weights, w13, w2 = tensors(case)
    layer = comet_moe.MoeLayer(w13, w2, topk=ids.shape[1], max_tokens=len(x))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        for call in (lambda: comet_moe.moe(dual, ids, weights, w13, w2),
                     lambda: comet_moe.moe(x, ids, weights, forward_ad.make_dual(w13, w13), w2),
                     lambda: layer(dual, ids, weights), lambda: comet_moe.moe(dual, ids, weights, w13, w2, out=x.clone())):
            with torch.no_grad(), pytest.raises(NotImplementedError, match="forward_ad: an input has a tangent"):
                call()
        expect_close(comet_moe.moe(forward_ad.unpack_dual(dual).primal, ids, weights, w13, w2).numpy(), case.truth())


def test_tensors_that_have_no_memory_are_refused():
    """One weight that was left on the device meta would give y without anything written to it."""
    case = Case()
    arguments = tensors(case)
    assert comet_moe.moe(*(argument.to("meta") for argument in arguments)).device.type == "meta"
    for index, name in enumerate(("x", "topk_ids", "topk_weights", "w13", "w2")):
        some = [argument.to("meta") if i == index else argument for i, argument in enumerate(arguments)]
        words = "topk_ids: on device cpu, x is on meta" if name == "x" else f"{name}: on device meta, x is on cpu"
        with pytest.raises(ValueError, match=words):
            comet_moe.moe(*some)
    x, ids, weights, w13, w2 = arguments
    layer = comet_moe.MoeLayer(w13, w2, topk=ids.shape[1], max_tokens=len(x))
    with pytest.raises(ValueError, match=r"^\[array\] x: its library does not hand out its memory: [^\n]*$"):
        layer(x.to("meta"), ids, weights, out=torch.empty_like(x))
    with pytest.raises(ValueError, match=r"^\[array\] w2: its library does not hand out its memory: [^\n]*$"):
        comet_moe.MoeLayer(w13, w2.to("meta"), topk=2, max_tokens=64)


def test_compiles_whole():
    case = Case()
    world = comet_moe.World.local(2)

    def block(x, ids, weights, w13, w2):
        return comet_moe.moe(x * 2, ids, weights, w13, w2, world=world) + 1

    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*tensors(case)), block(*tensors(case)))


@pytest.mark.parametrize("modules", ["comet_moe, torch", "torch, comet_moe"])
def test_compiles_whole_as_its_first_call(modules):
    """In a process of its own: in this one torch is loaded, and other calls have been."""
    code = (f"import sys; import {modules}; sys.path.insert(0, sys.argv[1]); import test_torch as tests; "
            "case = tests.Case(); run = torch.compile(comet_moe.moe, fullgraph=True, backend='aot_eager'); "
            "y = run(*tests.tensors(case)); assert torch.equal(run(*tests.tensors(case)), y); "
            "tests.expect_close(y.numpy(), case.truth()); "
            "assert torch.equal(run(*tests.tensors(case), ep=1), y)")
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_is_no_tensor_is_named():
    case = Case()
    x, ids, weights, w13, w2 = tensors(case)
    for arguments, options, pattern in (
            ((x, ids.tolist(), weights, w13, w2), {}, "topk_ids: list, a tensor"),
            ((x, ids, None, w13, w2), {}, "topk_weights: NoneType, a tensor"),
            ((x, ids, weights, w13, list(case.w2)), {}, "w2: ndarray, a tensor"),
            ((x, ids, weights, w13, w2), {"groups": None}, "groups: None, an integer"),
            ((x, ids, weights, w13, w2), {"ep": 0}, "ep: 0, from 1"),
            ((x, ids, weights, w13, w2), {"ep": -1}, "ep: -1, from 1"),
            ((x.double(), ids, weights, w13, w2), {}, " x: elements are float64"),
            ((x.T.contiguous().T, ids, weights, w13, w2), {}, " x: elements of a row are")):
        with pytest.raises(ValueError, match=pattern) as caught:
            comet_moe.moe(*arguments, **options)
        assert "\n" not in str(caught.value)


def test_operator_passes_opcheck():
    world = comet_moe.World.local(2)
    torch.library.opcheck(torch.ops.comet_moe.moe.default, op_arguments(Case(), world))


def test_a_world_that_is_gone_is_named():
    arguments = list(op_arguments(Case(), comet_moe.World.local(1)))
    arguments[5] = 10**9
    with pytest.raises(ValueError, match="handle: 1000000000"):
        torch.ops.comet_moe.moe(*arguments)


@pytest.mark.skipif(not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="PyTorch before 2.10")
def test_calls_of_kept_layers_go_through_cpp_alone(monkeypatch):
    arguments = tensors(Case())
    first = comet_moe.moe(*arguments)
    monkeypatch.setattr(comet_moe.torch_ops, "run_kept", lambda *_: pytest.fail("a layer is made"))
    assert torch.equal(comet_moe.moe(*arguments), first)
    with pytest.raises(IndexError, match="9"):
        comet_moe.moe(arguments[0], torch.full_like(arguments[1], 9), *arguments[2:])
    with pytest.raises(pytest.fail.Exception, match="a layer is made"):
        comet_moe.moe(*tensors(Case(seed=2)))
