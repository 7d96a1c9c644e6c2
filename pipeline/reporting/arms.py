"""What each arm of students reaches on val, its seeds together."""

import numpy as np

from pipeline.deployment import wording
from pipeline.params import BASELINE
from pipeline.scoring import statistics


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
