# SPDX-License-Identifier: Apache-2.0
"""How many queues ranks that are processes ask CUDA for."""

import os
import warnings
from types import SimpleNamespace

import pytest

from comet_moe import _queues


def said(*, started, gpus=1, rank=0, size=8, **variables):
    """Warnings of a rank, and what the variable is then."""
    for name in (_queues.VARIABLE, "LOCAL_WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    cuda = SimpleNamespace(is_initialized=lambda: started, device_count=lambda: gpus)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _queues.ask_for_few(cuda, rank, size)
    return [str(warning.message) for warning in caught], os.environ.get(_queues.VARIABLE)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(_queues, "_has_warned", False)
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_the_variable_is_set_before_cuda_starts():
    assert said(started=False) == ([], "8")


@pytest.mark.parametrize("value", ["1", "8"])
@pytest.mark.parametrize("started", [False, True])
def test_few_that_the_user_asks_for_are_left(value, started):
    assert said(started=started, CUDA_DEVICE_MAX_CONNECTIONS=value) == ([], value)


def test_it_is_said_that_cuda_has_started_without_it():
    texts, value = said(started=True)
    assert texts == ["[world] 8 ranks share 1 GPU and CUDA_DEVICE_MAX_CONNECTIONS is not set and CUDA has started: MPS "
                     "may not have queues enough; have CUDA_DEVICE_MAX_CONNECTIONS=8 in the environment before CUDA "
                     "starts"]
    assert value is None


def test_it_is_said_that_the_user_asks_for_many():
    texts, value = said(started=False, CUDA_DEVICE_MAX_CONNECTIONS="32")
    assert len(texts) == 1 and "CUDA_DEVICE_MAX_CONNECTIONS is 32" in texts[0]
    assert value == "32"


def test_it_is_said_once_and_by_one_process_of_a_host():
    many = {"started": True, "CUDA_DEVICE_MAX_CONNECTIONS": "32"}
    assert len(said(**many)[0]) == 1
    assert said(**many)[0] == []
    _queues._has_warned = False
    assert said(**many, rank=1)[0] == []
    assert said(**many, rank=0, LOCAL_RANK="3")[0] == []
    assert len(said(**many, rank=4, LOCAL_RANK="0", LOCAL_WORLD_SIZE="4")[0]) == 1


def test_nothing_is_said_where_ranks_have_gpus_of_their_own():
    assert said(started=True, gpus=8)[0] == []
    assert said(started=True, gpus=4, size=8, LOCAL_WORLD_SIZE="4")[0] == []
