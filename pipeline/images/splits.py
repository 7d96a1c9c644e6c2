"""Train fits, val chooses, test is read once: how samples come to one of them."""

import hashlib

import numpy as np

from pipeline.images.sources import Source
from pipeline.params import Data
from pipeline.project.data import UNLABELLED, in_chunks
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive


def split(source: Source, data: Data, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Stratified, seeded sample positions of train, val and test, disjoint; train is shuffled, for good.

    Images without a label are in train, beside `data.train_samples`.

    Returns:
        The positions by split, and (samples,) int64 the labels: UNLABELLED for those of `data.unlabelled_samples`.
    """
    labels, labelled = source.labels.copy(), source.labels != UNLABELLED
    pool = np.flatnonzero((source.fixed == "") & labelled)
    fixed = {name: np.flatnonzero(source.fixed == name) for name in ("val", "test")}
    test, pool = (fixed["test"], pool) if len(fixed["test"]) else _take(source, pool, data.test_fraction, seed, "test")
    val, train = (fixed["val"], pool) if len(fixed["val"]) else _take(source, pool, data.val_fraction, seed, "val")
    if data.train_samples is not None and data.train_samples < len(train):
        train, rest = _take(source, train, data.train_samples, seed, "train_samples")
        rest = np.random.default_rng(derive(seed, "split", "unlabelled_samples")).permutation(rest)
        labels[rest[: data.unlabelled_samples]] = UNLABELLED
    train = np.concatenate([train, np.flatnonzero(labels == UNLABELLED)])
    train = np.random.default_rng(derive(seed, "split", "order")).permutation(train)
    return {"train": train, "val": val, "test": test}, labels


def _take(source: Source, pool: np.ndarray, size: float, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """A stratified part of `pool` of that fraction (or, for an int, that count), and the rest."""
    from sklearn.model_selection import train_test_split

    try:
        rest, part = train_test_split(
            pool, test_size=size, stratify=source.labels[pool], random_state=derive(seed, "split", purpose)
        )
    except ValueError as error:
        key = purpose if purpose == "train_samples" else f"{purpose}_fraction"
        counts = np.bincount(source.labels[pool], minlength=len(source.classes))
        raise PipelineError(
            f"`data.{key}` {size} can't be taken from {len(pool)} images of {len(source.classes)} classes, of which "
            f"`{source.classes[counts.argmin()]}` has the fewest, {counts.min()}: {error}"
        ) from None
    return np.sort(part), np.sort(rest)


def duplicates(source: Source, splits: dict[str, np.ndarray]) -> dict[str, int]:
    """How many images of the later split are, pixel for pixel, also in the earlier one; by digests of 64 bits."""
    every = in_chunks(source.images, np.arange(len(source.images)))
    digests = np.fromiter((_digest(image) for chunk in every for image in chunk), np.uint64, len(source.images))
    pairs = (("train", "val"), ("train", "test"), ("val", "test"))
    return {
        f"{later}_in_{earlier}": int(np.isin(digests[splits[later]], digests[splits[earlier]]).sum())
        for earlier, later in pairs
    }


def _digest(image: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image), digest_size=8).digest(), "little")
