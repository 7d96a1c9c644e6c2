"""What choosing a device sets up for the process."""

import sys

import pytest

from tests.conftest import CHECKOUT, run

FAULTS = """
import resource
import torch
from pipeline.training import devices
from tests import toys
devices.device(toys.compute())
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(1 << 22) for _ in range(4)]  # 16 MB each, as those of a batch
    del activations
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that gives memory back")
def test_memory_that_a_step_frees_is_there_for_the_next():
    first, *_, last = map(int, run(sys.executable, "-c", FAULTS, cwd=CHECKOUT).stdout.split())
    assert first > 10 * last
