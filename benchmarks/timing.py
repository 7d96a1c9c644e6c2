"""Times that can be compared: cases take turns, so that a machine that slows down slows all of them."""

import os
import time
from collections.abc import Callable

import numpy as np
from tqdm import tqdm


def alternate(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """(rounds,) seconds of each case, called in turn round by round after one untimed round."""
    taken = {name: np.empty(rounds + 1) for name in cases}
    for turn in tqdm(range(rounds + 1), "rounds", leave=False, disable=None):
        for name, call in cases.items():
            taken[name][turn] = seconds_of(call)
    return {name: each[1:] for name, each in taken.items()}


def seconds_of(call: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def ratio(taken: dict[str, np.ndarray], case: str, against: str) -> float:
    """The median over rounds of one case's time by another's of the same round."""
    return float(np.median(taken[case] / taken[against]))


def watched(call: Callable[[], object], cores: list[float]) -> Callable[[], None]:
    """The call, which also notes how many cores it kept busy, in itself and in processes that ended."""

    def noting() -> None:
        spent, began = sum(os.times()[:4]), time.perf_counter()
        call()
        cores.append((sum(os.times()[:4]) - spent) / (time.perf_counter() - began))

    return noting
