"""ONNX Runtime: logits, and what a call costs, each model in a clean process. Imports neither torch nor timm."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile
from tqdm import tqdm

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


@dataclass(frozen=True)
class OnnxFiles:
    """What is timed: ONNX files, whose logits (members, samples, classes) `combine` makes one answer of, if several."""

    files: tuple[Path, ...]
    combine: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, threads: int) -> Callable[[np.ndarray], object]:
        sessions = [session(path, threads) for path in self.files]

        def run(images: np.ndarray) -> object:
            logits = [each.run(None, {"images": images})[0] for each in sessions]
            return logits[0] if self.combine is None else self.combine(np.stack(logits))

        return run


@dataclass(frozen=True)
class Timing:
    """threads: of the runtime, 0 for every core. calls: how many are timed, by batch size. warmup: how many before.

    rounds: over how many sets of new processes, as one keeps for life where in memory its model has come to lie.
    """

    threads: int
    calls: dict[int, int]
    warmup: int
    rounds: int = 2


BURST = 5  # calls of one image in a row after an untimed one, so that the system before leaves no cold cache
SLOW_BATCH_WARMUP = 2  # calls of larger batches are long enough to warm themselves


def measure(
    systems: dict[str, Load], images: np.ndarray, timing: Timing, *, apart: bool = True
) -> dict[str, dict[str, float]]:
    """Time every system at every batch size, each in turn, so that a drift of the machine meets all alike.

    Each runs in a process of its own that has imported its runtime and nothing else. A turn is one call; at batch 1 it
    is an untimed one and then BURST that count. Libraries that time calls, such as torch.utils.benchmark, take one
    system after the other, in the process that asks.

    Args:
        systems: each loads itself in the process that times it, and answers when a call is done.
        images: (samples, height, width, channels) uint8, at least as many as the largest batch.
        apart: False puts all of them into one process, for many systems of the same files.
    Returns:
        by name: `p50_ms`, `p95_ms`, `p99_ms` at batch 1; `images_per_second` at the largest batch, by the median call;
        `load_ms`; `memory_bytes`, the peak beyond the bare runtime; `spread`, by what part the rounds' p50 differ.
    Raises:
        PipelineError: a file is missing or no ONNX, or a process died.
    """
    largest = max(timing.calls)
    images = np.array(images[:largest])
    rounds = [_round(systems, images, timing, number, apart) for number in range(1, timing.rounds + 1)]
    costs = {}
    for name in systems:
        seconds, load, memory = zip(*(measured[name] for measured in rounds), strict=True)
        single = [1e3 * np.array(each[1]) for each in seconds]
        many = np.concatenate([each[largest] for each in seconds])
        p50, p95, p99 = np.percentile(np.concatenate(single), [50, 95, 99])
        medians = [np.median(each) for each in single]
        costs[name] = {
            "p50_ms": float(p50),
            "p95_ms": float(p95),
            "p99_ms": float(p99),
            "images_per_second": largest / float(np.median(many)),
            "load_ms": 1e3 * min(load),
            "memory_bytes": max(memory),
            "spread": float(max(medians) / min(medians) - 1),
        }
    return costs


def _round(
    systems: dict[str, Load], images: np.ndarray, timing: Timing, number: int, apart: bool
) -> dict[str, tuple[dict[int, list[float]], float, float]]:
    """Each system's seconds by batch size, its seconds to load, and its memory in bytes, in new processes."""
    seconds: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in timing.calls} for name in systems}
    with _workers(systems, images, timing.threads, apart) as ask:
        for name in systems:
            ask(name, "memory")  # answered once its process has started, which would slow the loading of the others
        load = {name: ask(name, "load") for name in systems}
        for batch, calls in timing.calls.items():
            burst, warmup = (BURST, timing.warmup // BURST) if batch == 1 else (1, SLOW_BATCH_WARMUP)
            turns = range(warmup + max(1, calls // timing.rounds // burst))
            for turn in tqdm(turns, desc=f"round {number}, batch {batch}", leave=False, disable=None):
                for name in systems:
                    took = ask(name, "calls", batch, burst)
                    if turn >= warmup:
                        seconds[name][batch] += took
        return {name: (seconds[name], load[name], ask(name, "memory")) for name in systems}


@contextmanager
def _workers(systems: dict[str, Load], images: np.ndarray, threads: int, apart: bool) -> Iterator[Callable[..., Any]]:
    """What asks the processes that hold the systems: a system's name and a question of `_serve` to the answer."""
    context = get_context("spawn")
    groups = [[name] for name in systems] if apart else [list(systems)]
    connections: dict[str, Connection] = {}
    processes = []

    def ask(name: str, *question: object) -> Any:
        connections[name].send((name, *question))
        try:
            answer = connections[name].recv()
        except EOFError:
            raise PipelineError(f"The process that timed {name} died; is there enough memory?") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    try:
        for names in groups:
            ours, theirs = context.Pipe()
            held = {name: systems[name] for name in names}
            processes.append(context.Process(target=_serve, args=(theirs, held, images, threads), daemon=True))
            with _no_main():
                processes[-1].start()
            theirs.close()
            connections |= dict.fromkeys(names, ours)
        yield ask
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the script that runs: a spawned process would import it, and all that it imports, before anything else."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(connection: Connection, systems: dict[str, Load], images: np.ndarray, threads: int) -> None:
    """Answer until the other side is gone, however it went, which the workers of an executor would not notice."""
    runs, bare = {}, machine.peak_bytes()
    while True:
        try:
            name, question, *size = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if question == "load":
                began = time.perf_counter()
                runs[name] = systems[name](threads)
                connection.send(time.perf_counter() - began)
            elif question == "memory":
                connection.send(machine.peak_bytes() - bare)
            else:
                batch, burst = size
                connection.send(_seconds(runs[name], images[:batch], burst))
        except Exception as error:
            connection.send(error)


def _seconds(run: Callable[[np.ndarray], object], images: np.ndarray, burst: int) -> list[float]:
    if burst > 1:
        run(images)
    taken = []
    for _ in range(burst):
        began = time.perf_counter()
        run(images)
        taken.append(time.perf_counter() - began)
    return taken
