"""Where classifiers go wrong: class by class, pair by pair, and where one is right and another is not."""

from typing import NamedTuple

import numpy as np
import pandas as pd


class Confused(NamedTuple):
    """A mistake that is made again and again. samples: the positions of those of `label` that get `answer`."""

    label: int
    answer: int
    samples: np.ndarray


def accuracy_by_class(answers: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) the share of each class's samples that get its label, the mean over seeds; nan for a class of none.

    Args:
        answers: (seeds, samples) classes. labels: (samples,).
    """
    hits = pd.Series((answers == labels).mean(axis=0))
    return hits.groupby(labels).mean().reindex(range(classes)).to_numpy()


def confused(answers: np.ndarray, labels: np.ndarray, most: int) -> list[Confused]:
    """The mistakes made most often, `most` of them at most; of equally frequent ones the lower classes first.

    Args:
        answers, labels: (samples,) classes.
    """
    wrong = pd.DataFrame({"label": labels, "answer": answers})[answers != labels]
    pairs = [Confused(*pair, samples.index.to_numpy()) for pair, samples in wrong.groupby(["label", "answer"])]
    return sorted(pairs, key=lambda pair: -len(pair.samples))[:most]


def most_confused(counts: np.ndarray, most: int) -> np.ndarray:
    """The classes, `most` of them at most and ascending, that are taken for others or others for them most often.

    Args:
        counts: (classes, classes) of pipeline.scoring.metrics.confusion.
    """
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-wrong, kind="stable")[:most])


def only_right(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The positions of the samples that `first` answers right and `second` does not. All three: (samples,) classes."""
    return np.flatnonzero((first == labels) & (second != labels))


def spread(positions: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the positions, evenly from the first on."""
    count = min(most, len(positions))
    return positions[np.arange(count) * len(positions) // max(count, 1)]
