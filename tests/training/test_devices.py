"""What choosing a device sets up for the process."""

import sys

import pytest

from tests.conftest import CHECKOUT, run

FREED = """
import psutil
import torch
from pipeline.training import devices
from tests import toys
devices.device(toys.compute())
activations = [torch.ones(1 << 22) for _ in range(4)]  # 16 MB each, as those of a batch
held = psutil.Process().memory_info().rss
del activations
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that gives memory back")
def test_memory_that_a_step_frees_is_there_for_the_next():
    """What the process holds, as the number of page faults depends on how large the system's pages are."""
    assert int(run(sys.executable, "-c", FREED, cwd=CHECKOUT).stdout) < 2**24  # of 64 MB
