"""On an accelerator, the next batch is prepared while the current one computes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def ahead(items: Iterator[Item], device: torch.device) -> Iterator[Item]:
    """The same items in the same order, each made in a thread while the one before is used.

    On a CPU they are made when they are asked for: a thread would take the cores from the arithmetic, which costs more
    than the wait (`python -m benchmarks.loop`).
    """
    if device.type == "cpu":
        yield from items
        return
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item
