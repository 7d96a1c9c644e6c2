"""What it takes to train a method, teachers included.

A cost is an array of two: seconds of wall time on the machine that ran, and images passed forward through a model. An
interrupted stage's seconds are of all its executions, but for what came after a checkpoint and was done again.
"""

from typing import Any

import numpy as np

from pipeline.deployment.lineup import Entry
from pipeline.deployment.wording import INT8
from pipeline.params import BASELINE


def training(record: dict[str, Any], part: str = "train") -> np.ndarray:
    """The cost that a training stage's record states: of its model, or of its fold teachers where `part` is `folds`."""
    return np.array([record["metrics"][f"{part}_{key}"] for key in ("seconds", "images")])


def caching(record: dict[str, Any], images: int) -> np.ndarray:
    """The cost of caching a teacher's logits of so many images, views counted one by one."""
    return np.array([record["metrics"]["cache_seconds"], images])


def columns(
    entries: list[Entry], fitted: dict[str, Any], trained: dict[str, np.ndarray], cached: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """`train_seconds` and `train_images` of each row: of its models, or of one of an arm's students and who taught it.

    Args:
        fitted: what `fit_ensemble` wrote. trained: each model's cost. cached: of each teacher's logits, fold teachers
            included.
    """
    rows = {}
    for entry in entries:
        models = [trained[name] for name in entry.models]
        if entry.kind in ("teacher", "ensemble"):
            cost = np.sum(models, axis=0)
        else:
            teachers = _teachers(entry.name.removesuffix(INT8), fitted)
            cost = np.mean(models, axis=0) + sum(trained[name] + cached[name] for name in teachers)
        rows[entry.name] = dict(zip(("train_seconds", "train_images"), cost.tolist(), strict=True))
    return rows


def _teachers(name: str, fitted: dict[str, Any]) -> list[str]:
    """Who taught the student of that name; nobody the baseline and what is no student."""
    if name in (BASELINE, fitted["best"]):
        return []
    if name == "ensemble":
        return fitted["methods"][fitted["chosen"]]["members"]
    return [fitted["best"] if name == "single" else name.removeprefix("from_")]
