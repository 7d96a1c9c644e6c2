"""Six methods on forty samples of two classes, whose scores can be told by hand."""

import numpy as np

from pipeline.reporting.comparison import Method

LABELS = np.array([0, 0, 1, 1] * 10)


def deciding(*wrong_in_four):
    """(seeds, 40, 2) log-probabilities, seed by seed wrong in the given ones of each four samples."""
    seeds = []
    for wrong in wrong_in_four:
        predicted = LABELS.copy()
        for position in wrong:
            predicted[position::4] = 1 - predicted[position::4]
        seeds.append(np.log(np.where(np.arange(2) == predicted[:, None], 0.9, 0.1)))
    return np.stack(seeds)


ONE, TWO = np.ones(1), np.array([2.0, 0.5])


def percentiles(**found):
    """The columns of these percentiles, each with its bounds."""
    return {f"{name}_ms{bound}": value for name, values in found.items()
            for bound, value in zip(("", "_low", "_high"), values, strict=True)}  # fmt: skip


METHODS = [
    Method("big", "teacher", deciding([0]), ONE),
    Method("small", "teacher", deciding([0, 1]), ONE),
    Method("simple", "ensemble", deciding([]), ONE),
    Method("weighted", "ensemble", deciding([]), ONE),
    Method("baseline", "student", deciding([0, 2], [0, 1, 2]), TWO),
    Method("ensemble", "student", deciding([0], [1]), TWO),
]
COSTS = {
    name: {"parameters": parameters, "multiply_adds": float("nan") if name == "simple" else 2e6, "size_bytes": size,
           **percentiles(p50=(2.0**i, 1.0, 70.0), p90=(2.5**i, 2.0, 200.0), p95=(3.0**i, 2.0, None), p99=(None,) * 3),
           "calls": 40, "p50_ms_all_cores": 1.5**i,
           "p50_ms_torch": float("nan") if name in ("simple", "weighted") else 5.0**i,
           "images_per_second": 100.0, "images_per_second_all_cores": 150.0, "load_ms": 10.0,
           "memory_bytes": 3e6, "memory_bytes_largest_batch": 7e6,
           "spread": 0.2 if name == "small" else 0.01, "train_seconds": 60.0 * i, "train_images": 5e5 * i}
    for i, (name, parameters, size) in enumerate([("big", 900, 4000), ("small", 100, 1000), ("simple", 1000, 5000),
                                                  ("weighted", 1000, 5000), ("baseline", 50, 500),
                                                  ("ensemble", 50, 250)])
}  # fmt: skip
