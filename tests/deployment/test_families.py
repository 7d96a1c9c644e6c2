"""Every family goes through all that the stages do with a model: training, counting, ONNX, INT8."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from pipeline.deployment import tryout
from pipeline.deployment.families import MEMBERS
from pipeline.deployment.tryout import Trial
from pipeline.project.data import Info
from tests import toys

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """A process for each trial, as stages are: in one for all, torch or ONNX Runtime crashes sooner or later."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([tryout.__name__, toys.__name__])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        yield pool


def trial(name: str) -> Trial:
    size, kwargs = MEMBERS[name]
    return tryout.tried(toys.architecture(model=name, kwargs=kwargs), Info(["a", "b", "c"], size, [0.4], [0.2], {}))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_each_family_trains_is_counted_exported_and_becomes_int8(processes, name):
    assert processes.submit(trial, name).result().multiply_adds > 0
