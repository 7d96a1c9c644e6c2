"""What it takes to train a method: seconds and images seen, teachers included."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.deployment.lineup import INT8, Entry
from pipeline.reporting.comparison import CONTROL


@dataclass(frozen=True)
class Training:
    """seconds: of wall time on the machine that ran. images: forward passes over one, backward passes not counted."""

    seconds: float
    images: float

    def __add__(self, other: "Training") -> "Training":
        return Training(self.seconds + other.seconds, self.images + other.images)


NOTHING = Training(0.0, 0.0)


def total(parts: Iterable[Training]) -> Training:
    return sum(parts, NOTHING)


def mean(parts: list[Training]) -> Training:
    """Of an arm's seeds: what one student costs."""
    return Training(*(sum(getattr(part, key) for part in parts) / len(parts) for key in ("seconds", "images")))


def of_record(record: dict[str, Any]) -> Training:
    """What one execution of a training stage spent on training, from its record."""
    return Training(record["metrics"]["train_seconds"], record["metrics"]["train_images"])


def of_looking(record: dict[str, Any], looks: int) -> Training:
    """What caching a teacher's logits of so many looks took, from end to end."""
    return Training((record["ended"] - record["started"]) / 1000, float(looks))


def of_entries(
    entries: list[Entry], fitted: dict[str, Any], trained: dict[str, Training], cached: dict[str, Training]
) -> dict[str, dict[str, float]]:
    """`train_seconds` and `train_images` of one model of each row, with the teachers that teach it and their looking.

    Args:
        fitted: what `fit_ensemble` wrote. trained: of every model. cached: of every teacher, out-of-fold ones included.
    """
    found = {}
    for entry in entries:
        if entry.kind in ("teacher", "ensemble"):
            spent = total(trained[name] for name in entry.models)
        else:
            spent = mean([trained[name] for name in entry.models])
            arm = entry.name.removesuffix(INT8)
            if arm not in (CONTROL, fitted["best"]):
                spent = total([spent, *(trained[name] + cached[name] for name in _teachers(arm, fitted))])
        found[entry.name] = {"train_seconds": spent.seconds, "train_images": spent.images}
    return found


def _teachers(source: str, fitted: dict[str, Any]) -> list[str]:
    if source == "ensemble":
        return fitted["methods"][fitted["chosen"]]["members"]
    return [fitted["best"] if source == "single" else source.removeprefix("from_")]
