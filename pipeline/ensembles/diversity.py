"""How differently members err, by which one chooses them (Kuncheva and Whitaker 2003)."""

from itertools import combinations

import numpy as np
import pandas as pd


def pairwise(predicted: dict[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """One row a pair of members: `disagreement`, `q_statistic` and `error_correlation`.

    disagreement: the share of samples that the two decide differently. q_statistic: Yule's Q of being right, from -1
    (they err on different samples) over 0 (independently) to 1 (on the same). error_correlation: the correlation
    coefficient of being wrong. Both are 0 where a member is always right, or always wrong.

    Args:
        predicted: each member's (samples,) classes.
    """
    right = {name: classes == labels for name, classes in predicted.items()}
    rows = []
    for first, second in combinations(predicted, 2):
        a, b = right[first], right[second]
        both, neither = float((a & b).mean()), float((~a & ~b).mean())
        only_a, only_b = float((a & ~b).mean()), float((~a & b).mean())
        together, apart = both * neither, only_a * only_b
        spread = np.sqrt(a.mean() * (1 - a.mean()) * b.mean() * (1 - b.mean()))
        rows.append(
            {
                "first": first,
                "second": second,
                "disagreement": float((predicted[first] != predicted[second]).mean()),
                "q_statistic": (together - apart) / (together + apart) if together + apart else 0.0,
                "error_correlation": float((together - apart) / spread) if spread else 0.0,
            }
        )
    return pd.DataFrame(rows, columns=["first", "second", "disagreement", "q_statistic", "error_correlation"])


def oracle_accuracy(predicted: dict[str, np.ndarray], labels: np.ndarray) -> float:
    """The share of samples that at least one member gets right: what a perfect choice among them would reach."""
    return float(np.any([classes == labels for classes in predicted.values()], axis=0).mean())
