"""What choosing a device sets up for the process."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from pipeline import compute
from pipeline.params import Compute
compute.device(Compute(accelerator="cpu", devices=1, num_nodes=1, threads=1, compile=False))
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(1 << 22) for _ in range(4)]  # 16 MB each, as those of a batch
    del activations
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that gives memory back")
def test_memory_that_a_step_frees_is_there_for_the_next():
    faults = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    first, *_, last = map(int, faults.split())
    assert first > 10 * last
