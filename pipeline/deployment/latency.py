"""ONNX Runtime: logits, and what a process does that times it. Imports no more than that needs."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile

from pipeline.project import errors, machine
from pipeline.project.errors import PipelineError


def session(path: Path, threads: int, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """A session on the CPU with that many threads; 0 is every core. optimised=False runs the graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # or idle threads slow the next model down
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except NoSuchFile:
        raise errors.missing(path) from None
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise PipelineError(f"{path} is no readable ONNX file ({error}); delete it and run `dvc repro`.") from None


def onnx_logits(path: Path, images: np.ndarray, batch: int = 500, *, optimised: bool = True) -> np.ndarray:
    """(samples, classes) float32 logits by ONNX Runtime on every core."""
    runtime = session(path, 0, optimised=optimised)
    starts = range(0, len(images), batch)
    return np.concatenate(
        [runtime.run(None, {"images": np.array(images[start : start + batch])})[0] for start in starts]
    )


Load = Callable[[int], Callable[[np.ndarray], object]]  # from a number of threads to what answers images
Ask = Callable[..., Any]  # a system's name, a question of `here` and its numbers to the answer


@dataclass(frozen=True)
class OnnxFile:
    """What is timed: an ONNX file."""

    path: Path

    def __call__(self, threads: int) -> Callable[[np.ndarray], object]:
        runtime = session(self.path, threads)
        return lambda images: runtime.run(None, {"images": images})[0]


def here(systems: dict[str, Load], images: np.ndarray) -> Ask:
    """What asks systems in this process."""
    runs, bare = {}, machine.peak_bytes()

    def ask(name: str, question: str, *of: int) -> Any:
        if question == "memory":
            return machine.peak_bytes() - bare
        if question == "load":
            began = time.perf_counter()
            runs[name] = systems[name](*of)
            return time.perf_counter() - began
        batch, burst = of
        return _seconds(runs[name], images[:batch], burst)

    return ask


def serve(connection: Connection, systems: dict[str, Load], images: np.ndarray) -> None:
    """Answer until the other side is gone, however it went, which the workers of an executor would not notice."""
    ask = here(systems, images)
    with suppress(EOFError, ConnectionError):
        while True:
            question = connection.recv()
            try:
                answer = ask(*question)
            except Exception as error:
                answer = error
            connection.send(answer)


def _seconds(run: Callable[[np.ndarray], object], images: np.ndarray, burst: int) -> list[float]:
    if burst > 1:
        run(images)
    taken = []
    for _ in range(burst):
        began = time.perf_counter()
        run(images)
        taken.append(time.perf_counter() - began)
    return taken
