"""What a figure was measured on, in a few words, and how much memory a process has needed."""

import contextlib
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy", "scipy", "scikit-learn", "mlflow", "dvc")


def describe() -> dict[str, str]:
    """Processor, cores, memory, system and the versions that decide how fast a model runs."""
    import onnxruntime

    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def surroundings() -> dict[str, str]:
    """Processor, torch's threads if it is loaded, and the versions of Python and the packages, without an import."""
    tags = {"processor": processor(), "version.python": platform.python_version()}
    if torch := sys.modules.get("torch"):
        tags["threads"] = str(torch.get_num_threads())
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # onnxruntime has another name where it is built for GPUs
            tags[f"version.{package}"] = version(package)
    return tags


def peak_bytes() -> int:
    """The most memory that this process has held since it started, its mapped files included."""
    status = Path("/proc/self/status")  # getrusage would count what the parent held
    if status.exists():
        return 1024 * int(re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
