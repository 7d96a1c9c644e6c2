"""What each arm of students reaches on val, its seeds together, and the rows that versions are compared by there."""

import numpy as np
import pandas as pd

from pipeline.deployment import wording
from pipeline.params import BASELINE
from pipeline.scoring import statistics

ROLES = {  # what versions are compared by, under the names of columns of `predictions`
    "student": "the taught student",
    "alone": "the student alone",
    "single": "the best single teacher on val",
    "ensemble": "the ensemble that teaches",
}


def by_arm(arms: dict[str, list[str]], trained: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Each arm's `accuracy` and `nll`, means over its seeds, and its gain over the baseline, seed by seed.

    Args:
        arms: as pipeline.params.Params.student_arms. trained: each model's metrics, fractions and nats.
    Returns:
        The gain is `gain_value`, `gain_low`, `gain_high` and `gain_p`; a single seed has none.
    """
    accuracy = {arm: np.array([trained[name]["val_accuracy"] for name in names]) for arm, names in arms.items()}
    rows = {}
    for arm, names in arms.items():
        nll = np.mean([trained[name]["val_nll"] for name in names])
        rows[arm] = {"accuracy": float(accuracy[arm].mean()), "nll": float(nll)}
        if arm != BASELINE and (gain := statistics.paired_over_seeds(accuracy[arm] - accuracy[BASELINE])):
            rows[arm] |= {f"gain_{key}": number for key, number in gain.items()}
    return rows


def predictions(rows: dict[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """One row an image of val: its `label`, and what each role answers, ROLE-0, ROLE-1, ... of a role of students.

    rows: (seeds, samples) answers of each of ROLES; a single teacher and an ensemble have one seed.
    """
    columns = {f"{role}-{seed}": answers for role, row in rows.items() for seed, answers in enumerate(row)}
    return pd.DataFrame({"label": labels, **columns})


def hits(table: pd.DataFrame, role: str) -> np.ndarray:
    """(seeds, samples) float: what a role gets right. table: of `predictions`."""
    return table.filter(regex=rf"^{role}-\d+$").eq(table["label"], axis=0).to_numpy(np.float64).T


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Each role's accuracy on val, a mean over seeds, and the taught student's gain over itself alone, fractions.

    `gain_over_alone_low` and `gain_over_alone_high` bound its 95 % interval over images and seeds. table: of
    `predictions`.
    """
    right = {role: hits(table, role) for role in ROLES}
    gain = right["student"] - right["alone"]
    low, high = statistics.crossed_interval(gain)
    accuracies = {f"{role}_accuracy": float(each.mean()) for role, each in right.items()}
    return {**accuracies, "gain_over_alone": float(gain.mean()), "gain_over_alone_low": low,
            "gain_over_alone_high": high}  # fmt: skip


def text(scores: dict[str, dict[str, float]]) -> str:
    """A line an arm. scores: of `by_arm`."""
    lines = []
    for arm, row in scores.items():
        gain = {key.removeprefix("gain_"): value for key, value in row.items() if key.startswith("gain_")}
        over = f", over the student alone {wording.gain_over_seeds(gain)}" if gain else ""
        lines.append(
            f"{wording.title('student', arm)}: {100 * row['accuracy']:.2f} % on val, NLL {row['nll']:.3f}{over}"
        )
    return "\n".join(lines)
