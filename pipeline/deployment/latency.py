"""ONNX Runtime: logits, and what a call costs, each model in a clean process. Imports neither torch nor timm."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile

from pipeline.project import errors, machine
from pipeline.project.errors import PipelineError
from pipeline.scoring import statistics


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
    all_cores: time all of it on every core too.
    """

    threads: int
    calls: dict[int, int]
    warmup: int
    rounds: int = 2
    all_cores: bool = False


BURST = 5  # calls of one image in a row after an untimed one, so that the system before leaves no cold cache
SLOW_BATCH_WARMUP = 1  # calls of larger batches are long enough to warm themselves

PERCENTILES = (50, 90, 95)
RARE, BEYOND = 99, 10  # a percentile that is given only where so many calls take longer

Seconds = dict[str, dict[int, list[float]]]  # of single calls, by system and batch size
Ask = Callable[..., Any]  # a system's name, a question of `_here` and its numbers to the answer
Bar = Callable[[Iterable[int], str], Iterable[int]]  # turns and what they are of to the turns, which it shows as such


class Round(NamedTuple):
    """What one set of processes has measured. load, memory: by system, in seconds and bytes."""

    load: dict[str, float]
    memory: dict[str, int]
    seconds: Seconds
    on_all_cores: Seconds


def measure(
    systems: dict[str, Load],
    images: np.ndarray,
    timing: Timing,
    *,
    apart: bool = True,
    bar: Bar = lambda turns, title: turns,
) -> dict[str, dict[str, float | None]]:
    """Time every system at every batch size, each in turn, so that a drift of the machine meets all alike.

    Each runs in a process of its own that has imported its runtime and nothing else. A turn is one call; at batch 1 it
    is an untimed one and then BURST that count. Libraries that time calls, such as torch.utils.benchmark, take one
    system after the other, in the process that asks.

    Args:
        systems: each loads itself in the process that times it, and answers when a call is done.
        images: (samples, height, width, channels) uint8, at least as many as the largest batch.
        apart: False keeps all of them in the process that asks, where memory says nothing.
        bar: shows progress, as tqdm does.
    Returns:
        by name: those of `percentiles` at batch 1; `images_per_second` at the largest batch, by the median call;
        `load_ms`; `memory_bytes`, the peak beyond the bare runtime; `spread`, by what part the rounds' p50 differ;
        with `all_cores` also `p50_ms_all_cores` and `images_per_second_all_cores`.
    Raises:
        PipelineError: a file is missing or no ONNX, or a process died.
    """
    largest = max(timing.calls)
    images, rounds = np.array(images[:largest]), []
    for number in range(1, timing.rounds + 1):
        with _processes(systems, images) if apart else nullcontext(_here(systems, images)) as ask:
            rounds.append(_round(list(systems), timing, f"round {number}", ask, bar))
    costs = {}
    for name in systems:
        single = [1e3 * np.array(each.seconds[name][1]) for each in rounds]
        medians = [np.median(each) for each in single]
        costs[name] = percentiles(np.concatenate(single)) | {
            "images_per_second": largest / _median([each.seconds for each in rounds], name, largest),
            "load_ms": 1e3 * min(each.load[name] for each in rounds),
            "memory_bytes": max(each.memory[name] for each in rounds),
            "spread": float(max(medians) / min(medians) - 1),
        }
        if timing.all_cores:
            taken = [each.on_all_cores for each in rounds]
            costs[name] |= {
                "p50_ms_all_cores": 1e3 * _median(taken, name, 1),
                "images_per_second_all_cores": largest / _median(taken, name, largest),
            }
    return costs


def percentiles(milliseconds: np.ndarray) -> dict[str, float | None]:
    """`p50_ms`, `p90_ms`, `p95_ms`, `p99_ms` of (calls,) times, their intervals as `_low` and `_high`, and `calls`.

    None: there are too few calls for that number, of p99 fewer than BEYOND beyond it. The intervals are those of
    independent calls: they do not cover what one set of processes differs by from another.
    """
    figures = {"calls": len(milliseconds)}
    for percent in (*PERCENTILES, RARE):
        found = (None, None, None)
        if percent != RARE or len(milliseconds) * (100 - RARE) >= 100 * BEYOND:
            found = statistics.percentile(milliseconds, percent)
        figures |= zip((f"p{percent}_ms", f"p{percent}_ms_low", f"p{percent}_ms_high"), found, strict=True)
    return figures


def _median(rounds: list[Seconds], name: str, batch: int) -> float:
    return float(np.median(np.concatenate([each[name][batch] for each in rounds])))


def _round(names: list[str], timing: Timing, title: str, ask: Ask, bar: Bar) -> Round:
    for name in names:
        ask(name, "memory")  # answered once its process has started, which would slow the loading of the others
    load = {name: ask(name, "load", timing.threads) for name in names}
    seconds, on_all_cores = _turns(names, timing, title, ask, bar), {}
    memory = {name: ask(name, "memory") for name in names}
    if timing.all_cores:
        for name in names:
            ask(name, "load", 0)
        on_all_cores = _turns(names, timing, f"{title}, all cores", ask, bar)
    return Round(load, memory, seconds, on_all_cores)


def _turns(names: list[str], timing: Timing, title: str, ask: Ask, bar: Bar) -> Seconds:
    seconds: Seconds = {name: {batch: [] for batch in timing.calls} for name in names}
    for batch, calls in timing.calls.items():
        burst, warmup = (BURST, timing.warmup // BURST) if batch == 1 else (1, SLOW_BATCH_WARMUP)
        turns = range(warmup + max(1, calls // timing.rounds // burst))
        for turn in bar(turns, f"{title}, batch {batch}"):
            for name in names:
                took = ask(name, "calls", batch, burst)
                if turn >= warmup:
                    seconds[name][batch] += took
    return seconds


def _here(systems: dict[str, Load], images: np.ndarray) -> Ask:
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


@contextmanager
def _processes(systems: dict[str, Load], images: np.ndarray) -> Iterator[Ask]:
    """What asks systems that have a process each."""
    context = get_context("spawn")
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
        for name, system in systems.items():
            connections[name], theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs, {name: system}, images), daemon=True))
            with _no_main(), _uninterrupted():
                processes[-1].start()
            theirs.close()
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


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C from a process that is started here, for life: it ends by its parent, which is told of it too.

    A handler of its own would come too late, after its imports.
    """
    resource_tracker.ensure_running()  # whose start would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, systems: dict[str, Load], images: np.ndarray) -> None:
    """Answer until the other side is gone, however it went, which the workers of an executor would not notice."""
    ask = _here(systems, images)
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
