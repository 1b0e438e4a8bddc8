# SPDX-License-Identifier: Apache-2.0
"""moe and MoeLayer against double precision, with NumPy."""

import os
import threading
from pathlib import Path

import numpy
import pytest

import comet_moe
from conftest import Case, expect_close


@pytest.mark.parametrize("ranks, ep, tp", [(1, 1, 1), (2, 2, 1), (2, 1, 2), (3, 3, 1), (4, 2, 2), (6, 3, 2)])
def test_every_split_is_the_truth(ranks, ep, tp):
    case = Case()
    world = comet_moe.World.local(ranks)
    for tokens in (37, 1, 0, 64):
        case = Case(tokens=tokens, seed=tokens)
        y = comet_moe.moe(*case.arguments(), world=world, ep=ep, tp=tp)
        assert y.shape == case.x.shape and y.dtype == case.x.dtype
        expect_close(y, case.truth())


@pytest.mark.parametrize("schedule", ["sequential", "pipelined", "comet"])
def test_schedules_agree_bit_for_bit(schedule):
    case = Case(tokens=200)
    world = comet_moe.World.local(4)
    one = comet_moe.moe(*case.arguments(), world=world, schedule="sequential")
    for _ in range(3):
        y = comet_moe.moe(*case.arguments(), world=world, schedule=schedule, groups=2)
        assert numpy.array_equal(y, one)


@pytest.mark.parametrize("activation", ["silu", "gelu", "relu"])
def test_activations(activation):
    case = Case()
    expect_close(comet_moe.moe(*case.arguments(), activation=activation), case.truth(activation))


@pytest.mark.parametrize("layout", ["up_gate", "interleaved"])
@pytest.mark.parametrize("tp", [1, 2])
def test_gate_layouts_compute_the_same(layout, tp):
    case = Case()
    gate, up = case.w13[:, :case.inter], case.w13[:, case.inter:]
    if layout == "up_gate":
        w13 = numpy.concatenate([up, gate], axis=1)
    else:
        w13 = numpy.stack([gate, up], axis=2).reshape(case.w13.shape)
    y = comet_moe.moe(case.x, case.ids, case.weights, w13, case.w2, gate_layout=layout,
                      world=comet_moe.World.local(tp), tp=tp)
    expect_close(y, case.truth())


def test_experts_without_gate():
    case = Case(gated=False)
    expect_close(comet_moe.moe(*case.arguments(), gate_layout="none", activation="relu"), case.truth("relu"))


def test_lists_of_matrices_64_bit_ids_dropped_choices_and_padded_rows():
    case = Case()
    case.ids[::3, 1] = -1
    wide = numpy.zeros((case.x.shape[0], case.x.shape[1] + 16), numpy.float32)
    wide[:, :-16] = case.x
    out = numpy.full_like(wide, 7)
    weights = numpy.repeat(case.weights, 2, axis=1)[:, ::2]
    y = comet_moe.moe(wide[:, :-16], case.ids.astype(numpy.int64), weights, list(case.w13), list(case.w2),
                      out=out[:, :-16], world=comet_moe.World.local(2))
    expect_close(y, case.truth())
    assert numpy.all(out[:, -16:] == 7)


@pytest.mark.parametrize("ranks", [1, 3])
def test_routing_weights_of_16_bits_are_computed_with_as_float32(ranks):
    case = Case()
    world = comet_moe.World.local(ranks)
    x, ids, weights, w13, w2 = case.arguments()
    half = weights.astype(numpy.float16)
    assert (half != weights).any()
    y = comet_moe.moe(x, ids, half, w13, w2, world=world)
    numpy.testing.assert_array_equal(y, comet_moe.moe(x, ids, half.astype(numpy.float32), w13, w2, world=world))


def test_weights_that_change_between_calls_are_seen():
    case = Case()
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=64)
    expect_close(layer(case.x, case.ids, case.weights), case.truth())
    case.w2 *= -2
    expect_close(layer(case.x, case.ids, case.weights), case.truth())


def test_many_weights_and_sizes_with_one_world():
    world = comet_moe.World.local(2)
    for seed in range(12):
        case = Case(tokens=10 * seed, seed=seed)
        expect_close(comet_moe.moe(*case.arguments(), world=world), case.truth())
    assert len(world.kept) == 8


def test_layers_that_take_turns_are_made_once():
    world, cases = comet_moe.World.local(1), [Case(seed=seed) for seed in range(11)]
    for turn in range(3):
        for case in cases:
            expect_close(comet_moe.moe(*case.arguments(), world=world), case.truth())
    assert len(world.kept) == len(cases)
    for case in cases[:4]:
        world.kept.forget(case.w13.ctypes.data)
    assert len(world.kept) == len(cases) - 4
    expect_close(comet_moe.moe(*cases[0].arguments(), world=world), cases[0].truth())


def test_layers_are_made_anew_where_all_would_need_too_much_memory():
    world, cases = comet_moe.World.local(1), [Case(seed=seed) for seed in range(12)]
    layer = comet_moe.MoeLayer(cases[0].w13, cases[0].w2, topk=2, max_tokens=64, world=world)
    layer(*cases[0].arguments()[:3])  # has all its buffers then
    world.kept.most_bytes = 9 * layer._core.local_bytes  # one that has not run has none
    for turn in range(3):
        for case in cases:
            expect_close(comet_moe.moe(*case.arguments(), world=world), case.truth())
    assert len(world.kept) == 10


def test_layers_that_come_and_go_leave_no_memory_behind():
    world, case = comet_moe.World.local(2), Case(tokens=100)
    sizes = []
    for turn in range(3):
        for _ in range(5):
            layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=50000, world=world)
            expect_close(layer(case.x, case.ids, case.weights), case.truth())
            del layer
        sizes.append(int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    assert sizes[2] - sizes[1] < 5 * case.x.itemsize * 64 * 50000  # less than x alone has in each


class Interrupted:
    """An array that lets other threads in while it is looked at."""

    def __init__(self, array, meanwhile):
        self.array, self.meanwhile = array, meanwhile

    def __dlpack__(self, *arguments, **options):
        self.meanwhile()
        return self.array.__dlpack__(*arguments, **options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_threads_find_their_own_layers():
    world, case, other = comet_moe.World.local(1), Case(seed=1), Case(seed=2)

    def find(w13, w2):
        return world.kept.find_or_make(64, 2, list(w13), list(w2), 0, 1, "silu", "gate_up", "after_down")

    def find_other():
        thread = threading.Thread(target=find, args=(other.w13, other.w2))
        thread.start()
        thread.join()

    layer = find(case.w13, [Interrupted(case.w2[0], find_other), *case.w2[1:]])
    assert find(case.w13, case.w2) is layer
    assert len(world.kept) == 2


def test_few_tokens_have_a_layer_of_their_own():
    world, case = comet_moe.World.local(1), Case(tokens=300)
    x, ids, weights, *experts = case.arguments()
    truth = case.truth()
    for tokens, kept in ((300, 1), (64, 2), (1, 2), (65, 2), (300, 2)):
        expect_close(comet_moe.moe(x[:tokens], ids[:tokens], weights[:tokens], *experts, world=world), truth[:tokens])
        assert len(world.kept) == kept


def test_layer_tells_what_it_is_and_did():
    case = Case(tokens=40)
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=40, world=comet_moe.World.local(2))
    assert (layer.num_experts, layer.topk, layer.hidden, layer.intermediate) == (6, 2, 64, 48)
    assert (layer.ep, layer.tp, layer.dtype) == (2, 1, "f32") and layer.workspace_bytes > 0
    layer(case.x, case.ids, case.weights)
    assert sum(rank["rows"] for rank in layer.stats) == 80
    assert all(rank["t_layer_us"] > 0 for rank in layer.stats)
    assert "6 experts, top-2" in repr(layer)


def test_threads_take_turns():
    case = Case()
    world = comet_moe.World.local(2)
    results = [None] * 4

    def call(i):
        for _ in range(10):
            results[i] = comet_moe.moe(*case.arguments(), world=world)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in results:
        expect_close(y, case.truth())


def refuse(error, pattern, *arguments, **options):
    with pytest.raises(error, match=pattern) as caught:
        comet_moe.moe(*arguments, **options)
    assert isinstance(caught.value, comet_moe.CometError)
    assert "\n" not in str(caught.value)


def test_bad_input_is_one_sentence():
    case = Case()
    x, ids, weights, w13, w2 = case.arguments()
    refuse(ValueError, "two axes", x[0], ids, weights, w13, w2)
    refuse(ValueError, " x: elements are float64, allowed are float32 and bfloat16", x.astype(numpy.float64), ids,
           weights, w13, w2)
    refuse(ValueError, " x: elements are bool", x > 0, ids, weights, w13, w2)
    refuse(NotImplementedError, "f32 or bf16", *(a.astype(numpy.float16) if a.ndim > 1 and a is not ids and a is not
                                                 weights else a for a in case.arguments()))
    refuse(ValueError, "topk_ids: elements are int16, allowed are int32 and int64", x, ids.astype(numpy.int16), weights,
           w13, w2)
    refuse(ValueError, "topk_weights: elements are float64, allowed are float32, bfloat16 and float16", x, ids,
           weights.astype(numpy.float64), w13, w2)
    refuse(ValueError, r"topk_weights: shape \(37, 1\)", x, ids, weights[:, :1].copy(), w13, w2)
    refuse(ValueError, "37 x 2 are needed", x, ids[:5], weights[:5], w13, w2)
    refuse(ValueError, "experts, w13 has 6", x, ids, weights, w13, w2[:5])
    refuse(ValueError, "rows an expert", x, ids, weights, w13[:, :-8], w2)
    refuse(ValueError, "positive multiples of 8", x[:, :60], ids, weights, w13[:, :, :60], w2[:, :60])
    refuse(ValueError, "one per expert", x, ids, weights, [], [])
    refuse(ValueError, "expert 3 differs", x, ids, weights, [*w13[:3], w13[3, :8], *w13[4:]], w2)
    refuse(ValueError, " x: elements of a row are", x.T.copy().T, ids, weights, w13, w2)
    refuse(ValueError, "out: list, an array to write to", x, ids, weights, w13, w2, out=x.tolist())
    refuse(ValueError, "w13: NoneType, an array is", x, ids, weights, [None], w2)
    refuse(ValueError, "schedule.*'fast': one of .*comet.*, auto$", x, ids, weights, w13, w2, schedule="fast")
    refuse(ValueError, "gate_layout|layout", x, ids, weights, w13, w2, gate_layout="both")
    refuse(ValueError, "ep 2 x tp 1: the world has 1", x, ids, weights, w13, w2, ep=2)
    refuse(ValueError, "ep: 0, from 1", x, ids, weights, w13, w2, ep=0)
    refuse(ValueError, "ep: -1, from 1", x, ids, weights, w13, w2, ep=-1)
    refuse(IndexError, "9", x, numpy.full_like(ids, 9), weights, w13, w2, world=comet_moe.World.local(2))
    # Nothing is lost: the same world goes on.
    expect_close(comet_moe.moe(*case.arguments()), case.truth())


def test_arguments_of_other_types_are_one_sentence():
    case = Case()
    x, ids, weights, w13, w2 = case.arguments()
    refuse(ValueError, "topk_ids: list, an array is needed", x, ids.tolist(), weights, w13, w2)
    refuse(ValueError, " x: list, an array is needed", x.tolist(), ids, weights, w13, w2, out=numpy.empty_like(x))
    refuse(ValueError, " x: list, an array is needed", x.tolist(), ids, weights, w13, w2)
    refuse(ValueError, "topk_weights: NoneType, an array is needed", x, ids, None, w13, w2)
    refuse(ValueError, r"^\[moe\] world: 4, a World is needed", x, ids, weights, w13, w2, world=4)
    refuse(ValueError, "tp: 0, from 1", x, ids, weights, w13, w2, tp=0)
    with pytest.raises(ValueError, match=r"^\[layer\] world: 'local:4', a World is needed"):
        comet_moe.MoeLayer(w13, w2, topk=2, max_tokens=64, world="local:4")
    with pytest.raises(ValueError, match="worlds are made by World.local"):
        comet_moe.World(4)
    refuse(ValueError, "groups: None, an integer is needed", x, ids, weights, w13, w2, groups=None)
    refuse(ValueError, "tp: 1.5, an integer is needed", x, ids, weights, w13, w2, tp=1.5)
    refuse(ValueError, "ep: '2', an integer is needed", x, ids, weights, w13, w2, ep="2")
    refuse(ValueError, "schedule: None, a text is needed", x, ids, weights, w13, w2, schedule=None)
    refuse(ValueError, "activation: 3, a text is needed", x, ids, weights, w13, w2, activation=3)
    for options, pattern in (({"ranks": 2.5}, "ranks: 2.5, an integer"), ({"link": 3}, "link: 3, a text"),
                             ({"ranks": 2**40}, "ranks: 1099511627776, from"),
                             ({"timeout_ms": None}, "timeout_ms: None, an integer")):
        with pytest.raises(ValueError, match=pattern):
            comet_moe.World.local(**options)
    for options, pattern in (({"topk": None}, "topk: None"), ({"workers": 1.0}, "workers: 1.0"),
                             ({"workers": -1}, "workers: -1, from 0"), ({"gate_layout": None}, "gate_layout: None")):
        with pytest.raises(ValueError, match=pattern):
            comet_moe.MoeLayer(w13, w2, **{"topk": 2, "max_tokens": 64, **options})
    layer = comet_moe.MoeLayer(w13, w2, topk=numpy.int64(2), max_tokens=64)
    for options, pattern in (({"panel": "64"}, "panel: '64', an integer"), ({"placement": 1}, "placement: 1, a text"),
                             ({"n_c_dispatch": 2**31}, "n_c_dispatch: 2147483648, from"),
                             ({"waves": 2.0}, "waves: 2.0, an integer"), ({"waves": 65}, "waves is 65, allowed 0 to 64"),
                             ({"expected_tokens": -1}, "expected_tokens: -1, from 0")):
        with pytest.raises(ValueError, match=pattern):
            layer(x, ids, weights, **options)
    with pytest.raises(ValueError, match="topk_ids: list, an array is needed"):
        layer(x, ids.tolist(), weights)
    for tokens, pattern in (("many", "tokens: 'many', an integer is needed"), (-1, "tokens: -1, from 0")):
        with pytest.raises(ValueError, match=pattern):
            layer.explain_choice(tokens)
    expect_close(layer(x, ids, weights), case.truth())


def test_out_must_be_memory_of_its_own():
    case = Case(tokens=32)
    x, ids, weights, w13, w2 = case.arguments()
    memory = numpy.zeros(200000, numpy.float32)

    def within(array):
        memory[:array.size] = array.ravel().view(numpy.float32)
        return memory[:array.size].view(array.dtype).reshape(array.shape)

    out = memory[:x.size].reshape(x.shape)
    refuse(ValueError, "out: it shares memory with x$", within(x), ids, weights, w13, w2, out=out)
    refuse(ValueError, "out: it shares memory with topk_ids$", x, within(ids), weights, w13, w2, out=out)
    refuse(ValueError, "out: it shares memory with topk_weights$", x, ids, within(weights), w13, w2, out=out)
    refuse(ValueError, "out: it shares memory with w13$", x, ids, weights, within(w13), w2, out=out)
    refuse(ValueError, "out: it shares memory with w2$", x, ids, weights, w13, within(w2), out=out)
    refuse(ValueError, "out: it shares memory with w2$", x, ids, weights, w13, [*w2[:5], within(w2[5])], out=out)
    apart = [numpy.concatenate([w, numpy.zeros_like(w)]) for w in w2]  # out lies between two experts
    stacked = numpy.stack(apart)
    between = stacked[0, w2.shape[1]:].reshape(-1)[:x.size].reshape(x.shape)
    expect_close(comet_moe.moe(x, ids, weights, w13, stacked[:, :w2.shape[1]], out=between), case.truth())


def test_arrays_that_cannot_be_written_or_read_are_told_so():
    case = Case()
    x, ids, weights, w13, w2 = case.arguments()
    out = numpy.empty_like(x)
    out.flags.writeable = False
    refuse(ValueError, "out: it is read-only", x, ids, weights, w13, w2, out=out)
    refuse(ValueError, "out: .*byte order", x, ids, weights, w13, w2, out=numpy.empty(x.shape, ">f4"))
    refuse(ValueError, " x: .*byte order", x.astype(">f4"), ids, weights, w13, w2, out=numpy.empty_like(x))
    refuse(ValueError, "topk_ids: .*byte order", x, ids.astype(">i4"), weights, w13, w2)
    refuse(ValueError, "w2: .*byte order", x, ids, weights, w13, w2.astype(">f4"))
    refuse(ValueError, "topk_ids: its library does not hand out its memory: [^\n]*$", x, ids.astype(object), weights,
           w13, w2)
    x.flags.writeable = False
    expect_close(comet_moe.moe(x, ids, weights, w13, w2), case.truth())


def test_worlds_that_cannot_be():
    with pytest.raises(ValueError, match="size: 0"):
        comet_moe.World.local(0)
    with pytest.raises(ValueError, match="link"):
        comet_moe.World.local(2, link="fast")
    with pytest.raises(ValueError, match="timeout"):
        comet_moe.World.local(2, timeout_ms=-1)
    with pytest.raises(ValueError, match="tpu"):
        comet_moe.World.local(2, backend="tpu")
    if not any(backend["name"] == "cuda" and backend["built"] for backend in comet_moe.doctor()["backends"]):
        with pytest.raises(NotImplementedError, match="cuda|CUDA|GPU"):
            comet_moe.World.local(2, backend="cuda")
    assert repr(comet_moe.World.local(2, link="paced:0.5")) == "World.local(2, link='paced:0.5')"


def test_layers_have_a_limit_of_tokens():
    case = Case()
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=36)
    with pytest.raises(MemoryError, match="37 tokens, the layer was made for 36"):
        layer(case.x, case.ids, case.weights)


def test_arrays_of_unknown_libraries_need_out():
    case = Case()

    class Foreign:
        """Speaks DLPack, and is nobody's."""

        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    refuse(ValueError, "out: needed", Foreign(case.x), case.ids, case.weights, case.w13, case.w2)
    y = comet_moe.moe(Foreign(case.x), case.ids, case.weights, Foreign(case.w13), Foreign(case.w2),
                      out=numpy.empty_like(case.x))
    expect_close(y, case.truth())
