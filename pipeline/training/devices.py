"""The device and the conditions under which the same commit gives the same bits."""

import ctypes
import os
import sys

import torch

from pipeline.params import Compute
from pipeline.project.errors import PipelineError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def device(compute: Compute) -> torch.device:
    """The device that params ask for, with deterministic algorithms on and the thread count pinned."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms(True), which takes a second to import
    torch.utils.deterministic.fill_uninitialized_memory = False  # a third of a small model's step, for no bit of result
    torch.set_num_threads(compute.threads)
    _keep_freed_memory()
    name = compute.accelerator
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"`compute.accelerator` is {name}, which this machine can't use: {reason}") from None
    return torch.device(name)


def computes_in_bf16(device: torch.device) -> bool:
    """Has the device arithmetic for bf16? Where it is emulated, as on most CPUs, it is ten times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next: given back, it is zeroed anew page by page, a sixth of a step."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
