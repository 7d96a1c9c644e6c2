"""Every family goes through all that the stages do with a model: training, counting, ONNX, INT8."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext

import pytest

from pipeline.deployment import tryout
from pipeline.deployment.families import MEMBERS
from pipeline.deployment.tryout import Trial
from pipeline.project.data import Info
from tests import toys

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def context() -> BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([tryout.__name__, toys.__name__])
    return context


def trial(name: str) -> Trial:
    size, kwargs = MEMBERS[name]
    return tryout.tried(toys.architecture(model=name, kwargs=kwargs), Info(["a", "b", "c"], size, [0.4], [0.2], {}))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_each_family_trains_is_counted_exported_and_becomes_int8(context, name):
    """In a process of its own, as stages are: in one for all, torch or ONNX Runtime crashes sooner or later."""
    with ProcessPoolExecutor(1, context) as process:
        assert process.submit(trial, name).result().multiply_adds > 0
