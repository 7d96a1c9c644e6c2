"""What a call costs, each model in a clean process: what asks those processes, and what their answers add up to."""

import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.deployment import latency
from pipeline.deployment.latency import Ask, Load
from pipeline.project.errors import PipelineError
from pipeline.scoring import statistics


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

Seconds = dict[str, dict[int, list[float]]]  # of single calls, by system and batch size
PERCENTILES = (50, 90, 95, 99)
BEYOND = 10  # calls that lie beyond the 99th percentile, or it says nothing and is left out


class Round(NamedTuple):
    """What one set of processes has measured. load, memory: by system, in seconds, and bytes by batch size."""

    load: dict[str, float]
    memory: dict[str, dict[int, int]]
    seconds: Seconds
    on_all_cores: Seconds


def measure(
    systems: dict[str, Load],
    images: np.ndarray,
    timing: Timing,
    *,
    apart: bool = True,
    singly: Collection[str] = (),
) -> dict[str, dict[str, float]]:
    """Time every system at every batch size, each in turn, so that a drift of the machine meets all alike.

    Each runs in a process of its own that has imported its runtime and nothing else. A turn is one call; at batch 1 it
    is an untimed one and then BURST that count. Libraries that time calls, such as torch.utils.benchmark, take one
    system after the other, in the process that asks.

    Args:
        systems: each loads itself in the process that times it, and answers when a call is done.
        images: (samples, height, width, channels) uint8, at least as many as the largest batch.
        apart: False keeps all of them in the process that asks, where memory says nothing.
        singly: systems that are timed with one image on `threads` alone.
    Returns:
        by name: what `percentiles` says of the `calls` of one image; `images_per_second` at the largest batch, by the
        median call; `load_ms`; `memory_bytes`, the peak beyond the bare runtime after the calls of one image, and
        `memory_bytes_largest_batch` after all; `spread`, by what part the rounds' p50 differ; with `all_cores` also
        `p50_ms_all_cores` and `images_per_second_all_cores`. What speaks of larger batches or all cores is not there
        of `singly`.
    Raises:
        PipelineError: a file is missing or no ONNX, or a process died.
    """
    largest = max(timing.calls)
    images, rounds = np.array(images[:largest]), []
    for number in range(1, timing.rounds + 1):
        with _processes(systems, images) if apart else nullcontext(latency.here(systems, images)) as ask:
            rounds.append(_round(list(systems), singly, timing, number, ask))
    costs = {}
    for name in systems:
        single = [1e3 * np.array(each.seconds[name][1]) for each in rounds]
        medians = [np.median(each) for each in single]
        costs[name] = {
            **percentiles(np.concatenate(single)),
            "load_ms": 1e3 * min(each.load[name] for each in rounds),
            "memory_bytes": max(each.memory[name][1] for each in rounds),
            "spread": float(max(medians) / min(medians) - 1),
        }
        if name in singly:
            continue
        costs[name] |= {
            "images_per_second": largest / _median([each.seconds for each in rounds], name, largest),
            "memory_bytes_largest_batch": max(each.memory[name][largest] for each in rounds),
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

    None: there are too few calls for that number, of p99 fewer than BEYOND beyond it. The intervals take calls for
    independent: they do not cover by what one set of processes differs from another.
    """
    row: dict[str, float | None] = {"calls": len(milliseconds)}
    for percent in PERCENTILES:
        found: tuple[float | None, ...] = (None, None, None)
        if percent != 99 or len(milliseconds) >= 100 * BEYOND:
            found = statistics.percentile(milliseconds, percent)
        row |= zip((f"p{percent}_ms", f"p{percent}_ms_low", f"p{percent}_ms_high"), found, strict=True)
    return row


def _median(rounds: list[Seconds], name: str, batch: int) -> float:
    return float(np.median(np.concatenate([each[name][batch] for each in rounds])))


def _round(names: list[str], singly: Collection[str], timing: Timing, number: int, ask: Ask) -> Round:
    for name in names:
        ask(name, "memory")  # answered once its process has started, which would slow the loading of the others
    load = {name: ask(name, "load", timing.threads) for name in names}
    seconds, memory = {name: {} for name in names}, {name: {} for name in names}
    fully = [name for name in names if name not in singly]
    for batch in sorted(timing.calls):  # the smallest first, as a process keeps its peak
        asked = names if batch == 1 else fully
        _turns({name: seconds[name] for name in asked}, batch, timing, f"round {number}", ask)
        for name in asked:
            memory[name][batch] = ask(name, "memory")
    on_all_cores = {name: {} for name in fully}
    if timing.all_cores:
        for name in fully:
            ask(name, "load", 0)
        for batch in sorted(timing.calls):
            _turns(on_all_cores, batch, timing, f"round {number}, all cores", ask)
    return Round(load, memory, seconds, on_all_cores)


def _turns(seconds: Seconds, batch: int, timing: Timing, title: str, ask: Ask) -> None:
    """Add to `seconds` what each system's calls of that batch size took, in turn."""
    burst, warmup = (BURST, timing.warmup // BURST) if batch == 1 else (1, SLOW_BATCH_WARMUP)
    turns = range(warmup + max(1, timing.calls[batch] // timing.rounds // burst))
    for turn in tqdm(turns, desc=f"{title}, batch {batch}", leave=False, disable=None):
        for name, taken in seconds.items():
            took = ask(name, "calls", batch, burst)
            if turn >= warmup:
                taken.setdefault(batch, []).extend(took)


@contextmanager
def _processes(systems: dict[str, Load], images: np.ndarray) -> Iterator[Ask]:
    """What asks systems that have a process each."""
    context = get_context("spawn")
    resource_tracker.ensure_running()  # starting it lets SIGINT through again
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
            processes.append(context.Process(target=latency.serve, args=(theirs, {name: system}, images), daemon=True))
            with _clean_start():
                processes[-1].start()
            theirs.close()
        yield ask
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def _clean_start() -> Iterator[None]:
    """What a process that is started here does not inherit: the script that runs, and a terminal's interrupts.

    It would import the script, and all that the script imports, before anything else. An interrupt is for the process
    that asks, which ends the others; they would print where they were.
    """
    main, before = sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
