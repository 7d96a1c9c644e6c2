"""Which fold a training image is in, for teachers that label only what they did not learn from."""

import numpy as np

from pipeline.project.randomness import derive, uniform


def fold_of(ids: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(samples,) from 0 to folds - 1, a pure function of each id. seed: `seed` of params.yaml."""
    return (uniform(derive(seed, "cross_fit"), ids, 0, 0) * folds).astype(np.int64)
