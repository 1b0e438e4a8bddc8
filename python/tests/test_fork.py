# SPDX-License-Identifier: Apache-2.0
"""Children that are forked: each case in a process of its own, since a failure would hang."""

import subprocess
import sys
from pathlib import Path

import pytest

# What each case begins with: `child(work)` runs work in a forked child and returns its exit status.
START = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
import comet_moe
from conftest import Case, expect_close
case = Case()

def child(work):
    process = os.fork()
    if process == 0:
        signal.alarm(40)  # ends one that hangs
        work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def dead(call):
    try:
        call()
    except comet_moe.InvalidArgumentError as error:
        assert "was forked" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError("a call of what the parent made")

def fresh(**options):
    expect_close(comet_moe.moe(*case.arguments(), **options), case.truth())
"""


def run(code, timeout=60):
    done = subprocess.run([sys.executable, "-c", START + code, str(Path(__file__).parent)], capture_output=True,
                          text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("before", [
    "world = comet_moe.World.local(1)", "world = comet_moe.World.local(4)", "fresh()",
    "world = comet_moe.World.local(4); fresh(world=world)",
    "layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=64); layer(*case.arguments()[:3])"])
def test_a_child_ends(before):
    run(f"{before}\nassert child(lambda: None) == 0")


def test_what_the_parent_made_is_dead_in_a_child_and_goes_on_in_the_parent():
    run("""
world = comet_moe.World.local(2)
layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=64, world=world)
x, ids, weights = case.arguments()[:3]
layer(x, ids, weights)
fresh(world=world)

def work():
    dead(lambda: layer(x, ids, weights))
    dead(lambda: layer.trace(x, ids, weights))
    dead(lambda: layer.stats)
    dead(lambda: layer.explain_choice())
    dead(lambda: fresh(world=world))
    dead(lambda: comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=64, world=world))
    dead(world.barrier)
    dead(world.recover)
    fresh(world=comet_moe.World.local(2))

assert child(work) == 0
expect_close(layer(x, ids, weights), case.truth())
fresh(world=world)
""")


def test_moe_works_in_children_and_in_theirs():
    run("""
fresh()
assert child(lambda: (fresh(), sys.exit(child(fresh)))) == 0
fresh()
""")


def test_locks_that_another_thread_holds_are_free_in_a_child():
    run("""
from comet_moe import world as module
own = comet_moe.World.local(1)
fresh()
held, done = threading.Event(), threading.Event()

def hold():
    with module._defaults_lock, own.lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
status = child(lambda: (dead(lambda: fresh(world=own)), fresh()))
done.set()
thread.join()
assert status == 0
""")


def test_forks_while_other_threads_make_and_call_layers():
    run("""
over = threading.Event()

def use(cases):
    world = comet_moe.World.local(2)
    while not over.is_set():
        for other in cases:  # of many shapes, which take the library long to make
            layer = comet_moe.MoeLayer(other.w13, other.w2, topk=2, max_tokens=64, world=world)
            layer(*other.arguments()[:3])
            del layer

threads = [threading.Thread(target=use, args=([Case(hidden=8 * n, inter=8 * n) for n in range(first, 60, 2)],))
           for first in (3, 4)]
for thread in threads:
    thread.start()
statuses = [child(fresh) for _ in range(20)]
over.set()
for thread in threads:
    thread.join()
assert statuses == [0] * 20
""", timeout=120)


def test_workers_of_multiprocessing():
    run("""
import multiprocessing
fresh()
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.apply(fresh)
    pool.map(expect_close, [])
""")


def test_workers_of_pytorch():
    pytest.importorskip("torch")
    run("""
import torch
tensors = [torch.from_numpy(array) for array in case.arguments()]
torch.ones(400, 400) @ torch.ones(400, 400)  # has its threads
y = comet_moe.moe(*tensors)

@torch.compile(fullgraph=True, backend="aot_eager")
def compiled(*arrays):
    return comet_moe.moe(*arrays)

assert torch.equal(compiled(*tensors), y)

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return (compiled if i % 2 else comet_moe.moe)(*tensors)

for item in torch.utils.data.DataLoader(Data(), num_workers=2, batch_size=None, multiprocessing_context="fork"):
    assert torch.equal(item, y)
""", timeout=180)
