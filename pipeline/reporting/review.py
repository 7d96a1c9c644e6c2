"""What a change did, as CI reports it: params, stages and headline metrics on val against those of another commit.

Test is for releases: who decides by it what to merge has chosen on it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.params import flatten
from pipeline.project import paths
from pipeline.project.errors import PipelineError
from pipeline.reporting import arms
from pipeline.reporting.tables import pipes
from pipeline.scoring import statistics
from pipeline.tracking import versions

STUDENT = "student_accuracy"
ROWS = {f"{role}_accuracy": role for role in arms.ROLES}  # the accuracies of metrics/val_summary.json
JUDGED = (STUDENT, "ensemble_accuracy", "single_accuracy")  # those that must not fall


@dataclass(frozen=True)
class Review:
    """A version against another.

    base: the other one's name. params: of `changed_params`. stages: those that ran. before, after: what
    metrics/val_summary.json held and holds. intervals: of `intervals`, or none and `unpaired` says why. limit: how far
    an accuracy may fall, as a fraction.
    """

    base: str
    params: dict[str, tuple[str, str]]
    stages: list[str]
    before: dict[str, float]
    after: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    unpaired: str
    limit: float

    @property
    def changed(self) -> bool:
        return bool(self.params or self.stages or self.before != self.after)


def changed_params(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs between two params.yaml, under dotted names, as pipeline.tracking.versions tells it."""
    return versions.changes(flatten(before), flatten(after))


def intervals(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each accuracy's change, paired image by image, and seed by seed where both have as many.

    Otherwise the one with other seeds is taken as it is, their mean, and the interval covers images alone.

    Args:
        before, after: of pipeline.reporting.arms.predictions.
    Raises:
        PipelineError: the two have not answered the same images of val, or one lacks a row.
    """
    if not np.array_equal(before["label"], after["label"]):
        raise PipelineError("The images of val have other labels than at the base, so no change has a paired interval.")
    bounds = {}
    for row, role in ROWS.items():
        old, new = (arms.hits(table, role) for table in (before, after))
        if not (len(old) and len(new)):
            raise PipelineError(f"{paths.VAL_PREDICTIONS} has no answers of {arms.ROLES[role]}.")
        if len(old) != len(new):
            old, new = (each.mean(axis=0, keepdims=True) for each in (old, new))
        bounds[row] = statistics.crossed_interval(new - old)
    return bounds


def fallen(review: Review) -> list[str]:
    """A sentence for each accuracy that fell by more than the limit; one that the base does not have can't fall."""
    sentences = []
    for row in JUDGED:
        before, after = review.before.get(row), review.after[row]
        if before is not None and round(before - after, 9) > review.limit:  # not by the last bit of a difference
            who = arms.ROLES[ROWS[row]]
            sentences.append(
                f"The accuracy on val of {who} ({row}) fell from {100 * before:.2f} % to {100 * after:.2f} %, by "
                f"{100 * (before - after):.2f} points; `ci.max_regression` allows {100 * review.limit:.2f}."
            )
    return sentences


def headline(review: Review) -> str:
    """In a sentence: is the taught student better, worse, or no different beyond chance?"""
    if STUDENT not in review.before:
        return f"{paths.VAL_SUMMARY} at {review.base} has no {STUDENT}, so there is nothing to compare with."
    if not review.changed:
        return f"Nothing changed since {review.base}: no param, no metric, and no stage ran."
    before, after = review.before[STUDENT], review.after[STUDENT]
    went = f"accuracy on val from {100 * before:.2f} % to {100 * after:.2f} %, {100 * (after - before):+.2f} points"
    if STUDENT not in review.intervals:
        return f"The taught student against {review.base}: {went}."
    low, high = review.intervals[STUDENT]
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else "shows no difference beyond chance to"
    return f"The taught student {verdict} that of {review.base}: {went} [{100 * low:+.2f}, {100 * high:+.2f}]."


def markdown(review: Review) -> str:
    """The whole report."""
    params = [(name, *values) for name, values in review.params.items()]
    ran = ", ".join(f"`{stage}`" for stage in review.stages)
    parts = [
        f"**{headline(review)}**",
        *([review.unpaired] if review.unpaired else []),
        "### Regressions",
        "\n".join(f"- {sentence}" for sentence in fallen(review))
        or f"No accuracy fell by more than {100 * review.limit:.2f} points (`ci.max_regression`).",
        "### Params",
        _table(pd.DataFrame(params, columns=["param", "before", "after"]))
        if params
        else f"None differs from {review.base}.",
        "### Stages that ran",
        f"{ran}." if ran else "None; whatever is new was restored from DVC's cache.",
        "### Metrics",
        _table(_metrics(review)),
        "Accuracies are fractions of the images of val; test is read by releases alone. Brackets: 95 % intervals of "
        "the change over images, and over seeds where both have as many, paired; one that includes 0 is no change "
        "beyond chance.",
    ]
    return "\n\n".join(parts) + "\n"


def _metrics(review: Review) -> pd.DataFrame:
    rows = []
    for name in dict.fromkeys([*review.after, *review.before]):
        before, after = review.before.get(name, np.nan), review.after.get(name, np.nan)
        low, high = review.intervals.get(name, (np.nan, np.nan))
        cells = f"{before:.5g}", f"{after:.5g}", f"{after - before:+.3g}", f"[{low:+.4f}, {high:+.4f}]"
        rows.append([name, *("" if "nan" in cell else cell for cell in cells)])
    return pd.DataFrame(rows, columns=["metric", "before", "after", "change", "change, 95 %"])


def _table(frame: pd.DataFrame) -> str:
    return pipes(frame.map(lambda cell: cell.replace("|", r"\|").replace("\n", " ")))
