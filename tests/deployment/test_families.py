"""Every family goes through all that the stages do with a model: training, counting, ONNX, INT8."""

import pytest

from pipeline.deployment.families import MEMBERS
from pipeline.deployment.tryout import tried
from pipeline.project.data import Info
from tests import toys

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_each_family_trains_is_counted_exported_and_becomes_int8(name):
    size, kwargs = MEMBERS[name]
    trial = tried(toys.architecture(model=name, kwargs=kwargs), Info(["a", "b", "c"], size, [0.4], [0.2], {}))
    assert trial.multiply_adds > 0
