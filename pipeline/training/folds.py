"""Which fold a training image is in, for teachers that label only what they did not learn from."""

import numpy as np

from pipeline.project.randomness import derive, uniform


def fold_of(ids: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(samples,) from 0 to folds - 1, a pure function of each id. seed: `seed` of params.yaml."""
    return (uniform(derive(seed, "cross_fit"), ids, 0, 0) * folds).astype(np.int64)


def name_of(member: str, fold: int, folds: int) -> str:
    """The name of the teacher that did not learn from that fold."""
    return f"{member}-fold{fold}of{folds}"


def parse(name: str) -> tuple[str, int | None, int]:
    """The member, and the fold that it did not learn from with their number; None of 1 for one that saw all."""
    member, found, rest = name.rpartition("-fold")
    if not found:
        return name, None, 1
    fold, folds = rest.split("of")
    return member, int(fold), int(folds)
