"""Train fits, val chooses, test is read once: how samples come to one of them."""

import numpy as np

from pipeline.images.sources import Source
from pipeline.params import Data
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive

LEAST_VAL = 4  # images, of which pipeline.ensembles.fitting can leave out two parts, one in the other


def split(source: Source, data: Data, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Stratified, seeded sample positions of train, val and test, disjoint; train is shuffled, for good.

    Images without a label are in train, beside `data.train_samples`. With groups, none is in two of the parts that are
    drawn here.

    Returns:
        The positions by split, and (samples,) int64 the labels: UNLABELLED for those of `data.unlabelled_samples`.
    Raises:
        PipelineError: a class is missing in train or val, or in a test split that was drawn.
    """
    labels, labelled = source.labels.copy(), source.labels != UNLABELLED
    pool = np.flatnonzero((source.fixed == "") & labelled)
    fixed = {name: np.flatnonzero(source.fixed == name) for name in ("train", "val", "test")}
    test, pool = (fixed["test"], pool) if len(fixed["test"]) else _take(source, pool, data.test_fraction, seed, "test")
    val, pool = (fixed["val"], pool) if len(fixed["val"]) else _take(source, pool, data.val_fraction, seed, "val")
    train = np.concatenate([fixed["train"], pool])
    if data.train_samples is not None and data.train_samples < len(train):
        train, rest = _at_most(source, train, data.train_samples, seed)
        rest = np.random.default_rng(derive(seed, "split", "unlabelled_samples")).permutation(rest)
        labels[rest[: data.unlabelled_samples]] = UNLABELLED
    drawn = {"train": train, "val": val} | ({} if len(fixed["test"]) else {"test": test})
    for name, ids in drawn.items():
        _check_classes(source, ids, name, data)
    if len(val) < LEAST_VAL:
        raise PipelineError(
            f"val has {len(val)} images, on which models are chosen, and needs {LEAST_VAL}; raise `data.val_fraction`."
        )
    train = np.concatenate([train, np.flatnonzero(labels == UNLABELLED)])
    train = np.random.default_rng(derive(seed, "split", "order")).permutation(train)
    return {"train": train, "val": val, "test": test}, labels


def _check_classes(source: Source, ids: np.ndarray, name: str, data: Data) -> None:
    """Whatever is fitted or chosen needs each class."""
    counts = np.bincount(source.labels[ids], minlength=len(source.classes))
    if counts.all():
        return
    rarest = int(counts.argmin())
    every = int((source.labels == rarest).sum())
    mend = f"raise `data.{name}_fraction`" if name != "train" else "leave more to train by `data.val_fraction`"
    if name == "train" and data.train_samples:
        mend = "raise `data.train_samples`"
    raise PipelineError(
        f"The class `{source.classes[rarest]}` has {every} image{'s' * (every != 1)} in all and none in {name}, where "
        f"each class needs one; add images of it, take it out, or {mend}."
    )


def _take(source: Source, pool: np.ndarray, size: float, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """A stratified part of `pool` of that fraction, and the rest."""
    if source.groups is not None:
        return _take_groups(source, pool, size, seed, purpose)
    from sklearn.model_selection import train_test_split

    try:
        rest, part = train_test_split(
            pool, test_size=size, stratify=source.labels[pool], random_state=derive(seed, "split", purpose)
        )
    except ValueError:
        raise _too_few(source, pool, size, purpose) from None
    return np.sort(part), np.sort(rest)


def _take_groups(
    source: Source, pool: np.ndarray, size: float, seed: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """The same of whole groups: one of 1 / size parts that are as alike in classes as groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    parts = StratifiedGroupKFold(max(2, round(1 / size)), shuffle=True, random_state=derive(seed, "split", purpose))
    try:
        rest, part = next(parts.split(pool, source.labels[pool], source.groups[pool]))
    except ValueError:
        raise _too_few(source, pool, size, purpose) from None
    return np.sort(pool[part]), np.sort(pool[rest])


def _at_most(source: Source, pool: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of `pool`, stratified, and the rest."""
    from sklearn.model_selection import train_test_split
    from sklearn.utils import resample

    labels, random = source.labels[pool], derive(seed, "split", "train_samples")
    if count < len(source.classes):
        raise PipelineError(f"`data.train_samples` is {count}, fewer than the {len(source.classes)} classes.")
    if len(pool) - count >= len(source.classes) and np.unique(labels, return_counts=True)[1].min() > 1:
        rest, part = train_test_split(pool, test_size=count, stratify=labels, random_state=random)
    else:  # of which the other one makes a test split too small for its taste
        part = resample(pool, replace=False, n_samples=count, stratify=labels, random_state=random)
        rest = np.setdiff1d(pool, part)
    return np.sort(part), np.sort(rest)


def _too_few(source: Source, pool: np.ndarray, size: float, purpose: str) -> PipelineError:
    counts = np.bincount(source.labels[pool], minlength=len(source.classes))
    return PipelineError(
        f"`data.{purpose}_fraction` {size} can't be taken from {len(pool)} images of {len(source.classes)} classes, of "
        f"which `{source.classes[counts.argmin()]}` has the fewest, {counts.min()}: each part needs one of each class."
    )
