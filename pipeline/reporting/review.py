"""What a change did, as CI reports it: params, stages and headline metrics against those of another commit."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.params import BASELINE, flatten
from pipeline.project import paths
from pipeline.project.errors import PipelineError
from pipeline.reporting.tables import pipes
from pipeline.scoring import statistics
from pipeline.tracking import versions

STUDENT = "student_accuracy"
JUDGED = {  # the accuracies of metrics/summary.json that must not fall
    STUDENT: "the taught student",
    "ensemble_accuracy": "the ensemble that teaches",
    "single_accuracy": "the best single teacher",
}


@dataclass(frozen=True)
class Answers:
    """What one version answered on test.

    table: of pipeline.reporting.comparison.predictions. benchmark: metrics/benchmark.json of the same version.
    """

    table: pd.DataFrame
    benchmark: dict[str, Any]

    @property
    def rows(self) -> dict[str, str]:
        """The method behind each accuracy of metrics/summary.json."""
        return {
            STUDENT: list(self.benchmark["shipped"])[-1],
            "alone_accuracy": BASELINE,
            "single_accuracy": self.benchmark["best_single"],
            "ensemble_accuracy": self.benchmark["chosen_ensemble"],
        }

    def hits(self, row: str) -> np.ndarray:
        """(samples,) hits of the row's method, the mean over its seeds."""
        answers = self.table.filter(regex=rf"^{re.escape(self.rows[row])}(-\d+)?$")
        if answers.empty:
            raise PipelineError(f"{paths.PREDICTIONS} has no answers of {self.rows[row]}.")
        return answers.eq(self.table["label"], axis=0).mean(axis=1).to_numpy()


@dataclass(frozen=True)
class Review:
    """A version against another.

    base: the other one's name. params: of `changed_params`. stages: those that ran. before, after: of `numbers`.
    intervals: of `intervals`, or none and `unpaired` says why. limit: how far an accuracy may fall, as a fraction.
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


def numbers(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers at the top level of metrics/summary.json."""
    return {name: value for name, value in summary.items() if type(value) in (int, float)}


def intervals(before: Answers, after: Answers, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each accuracy's change, by a bootstrap over test images, paired image by image.

    Raises:
        PipelineError: the two have not answered the same test images.
    """
    if not np.array_equal(before.table["label"], after.table["label"]):
        raise PipelineError("The test images have other labels than at the base, so no change has a paired interval.")
    changes = np.stack([after.hits(row) - before.hits(row) for row in after.rows])
    bounds = statistics.interval(statistics.bootstrap_means(changes, resamples, seed))
    return dict(zip(after.rows, zip(*bounds, strict=True), strict=True))


def fallen(review: Review) -> list[str]:
    """A sentence for each accuracy that fell by more than the limit; one that the base does not have can't fall."""
    sentences = []
    for row, who in JUDGED.items():
        before, after = review.before.get(row), review.after[row]
        if before is not None and round(before - after, 9) > review.limit:  # not by the last bit of a difference
            sentences.append(
                f"The test accuracy of {who} ({row}) fell from {100 * before:.2f} % to {100 * after:.2f} %, by "
                f"{100 * (before - after):.2f} points; `ci.max_regression` allows {100 * review.limit:.2f}."
            )
    return sentences


def headline(review: Review) -> str:
    """In a sentence: is the taught student better, worse, or no different beyond chance?"""
    if STUDENT not in review.before:
        return f"{paths.SUMMARY} at {review.base} has no {STUDENT}, so there is nothing to compare with."
    if not review.changed:
        return f"Nothing changed since {review.base}: no param, no metric, and no stage ran."
    before, after = review.before[STUDENT], review.after[STUDENT]
    went = f"test accuracy from {100 * before:.2f} % to {100 * after:.2f} %, {100 * (after - before):+.2f} points"
    if STUDENT not in review.intervals:
        return f"The taught student against {review.base}: {went}."
    low, high = review.intervals[STUDENT]
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else "shows no difference beyond chance to"
    return f"The taught student {verdict} that of {review.base}: {went} [{100 * low:+.2f}, {100 * high:+.2f}]."


def markdown(review: Review, picture: str, run: str) -> str:
    """The whole report.

    Args:
        picture: of accuracy against latency, relative to where the report lies. run: of tracking.summary.newest.
    """
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
        "Accuracies are fractions of the test images. Brackets: 95 % bootstrap intervals of the change over test "
        "images, paired image by image; an interval that includes 0 is no change beyond chance.",
        f"![Test accuracy against the latency of one image]({picture})",
        run,
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
