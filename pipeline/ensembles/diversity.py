"""How differently members err, by which one chooses them (Kuncheva and Whitaker 2003)."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist


def pairwise(predicted: dict[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """One row a pair of members: `first`, `second`, `disagreement`, `q_statistic` and `error_correlation`.

    disagreement: the share of samples that the two decide differently. q_statistic: Yule's Q of being right, from -1
    (they err on different samples) over 0 (independently) to 1 (on the same). error_correlation: the correlation
    coefficient of being wrong. Both are 0 where a member is always right, or always wrong.

    Args:
        predicted: each member's (samples,) classes.
    """
    classes = np.stack(list(predicted.values()))
    right = classes == labels
    table = pd.DataFrame(combinations(predicted, 2), columns=["first", "second"])
    table["disagreement"] = pdist(classes, "hamming")
    table["q_statistic"] = 1 - pdist(right, "yule")  # which is 0 / 0, as the correlation, where one never varies
    table["error_correlation"] = 1 - pdist(right.astype(float), "correlation")
    table.loc[table["error_correlation"].isna(), ["q_statistic", "error_correlation"]] = 0.0
    return table


def oracle_accuracy(predicted: dict[str, np.ndarray], labels: np.ndarray) -> float:
    """The share of samples that at least one member gets right: what a perfect choice among them would reach."""
    return float(np.any([classes == labels for classes in predicted.values()], axis=0).mean())
