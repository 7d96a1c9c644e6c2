"""ONNX Runtime: logits, and latency as measured in a process that does nothing else. Imports neither torch nor timm."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile

from pipeline.ensemble import Ensemble
from pipeline.errors import PipelineError


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU with that many threads; 0 is every core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except NoSuchFile:
        raise PipelineError(f"{path} is missing; `dvc repro` makes it.") from None
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise PipelineError(f"{path} is no readable ONNX file ({error}); delete it and run `dvc repro`.") from None


def onnx_logits(path: Path, images: np.ndarray, threads: int = 0, batch: int = 500) -> np.ndarray:
    """(samples, classes) float32 logits by ONNX Runtime; threads = 0 uses every core."""
    runtime = session(path, threads)
    starts = range(0, len(images), batch)
    return np.concatenate(
        [runtime.run(None, {"images": np.array(images[start : start + batch])})[0] for start in starts]
    )


def measure_apart(
    systems: dict[str, Ensemble],
    files: dict[str, Path],
    images: np.ndarray,
    threads: int,
    calls: dict[int, int],
    warmup: int,
) -> dict[str, dict[str, float]]:
    """`measure` in a new process, which has nothing else in its memory and no threads of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as clean_process:
        return clean_process.submit(measure, systems, files, np.array(images), threads, calls, warmup).result()


def measure(
    systems: dict[str, Ensemble],
    files: dict[str, Path],
    images: np.ndarray,
    threads: int,
    calls: dict[int, int],
    warmup: int,
) -> dict[str, dict[str, float]]:
    """Time every system at every batch size, one call each in turn, so that a drift of the machine meets all alike.

    Each timed call follows an untimed one of the same system: caches are not left cold by the system before it.

    Args:
        systems: a name to the ensemble that it is; a single model is an ensemble of one. An ensemble is timed end to
            end: every member and the combination of their outputs.
        files: a member's name to its ONNX file.
        images: (samples, height, width, channels) uint8, at least as many as the largest batch.
        calls: how many are timed, by batch size; 1 is among the sizes. warmup: how many before them are not.
    Returns:
        a name to `p50_ms`, `p95_ms` at batch 1 and `images_per_second` at the largest batch, from the median call.
    """
    sessions = {name: session(path, threads) for name, path in files.items()}
    seconds = {batch: _seconds(systems, sessions, images[:batch], count, warmup) for batch, count in calls.items()}
    largest = max(calls)
    return {
        name: {
            "p50_ms": 1e3 * float(np.percentile(seconds[1][name], 50)),
            "p95_ms": 1e3 * float(np.percentile(seconds[1][name], 95)),
            "images_per_second": largest / float(np.median(seconds[largest][name])),
        }
        for name in systems
    }


def _seconds(
    systems: dict[str, Ensemble],
    sessions: dict[str, onnxruntime.InferenceSession],
    images: np.ndarray,
    calls: int,
    warmup: int,
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for call in range(warmup + calls):
        for name, system in systems.items():
            _answer(system, sessions, images)
            started = time.perf_counter()
            _answer(system, sessions, images)
            if call >= warmup:
                taken[name].append(time.perf_counter() - started)
    return taken


def _answer(system: Ensemble, sessions: dict[str, onnxruntime.InferenceSession], images: np.ndarray) -> np.ndarray:
    logits = [sessions[member].run(None, {"images": images})[0] for member in system.members]
    return system.log_probs(np.stack(logits)) if len(logits) > 1 else logits[0]
