"""The prepared data set: how the arrays lie on disk, and how they are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files
from pipeline.errors import PipelineError

UNLABELLED = -100  # the label of an image that has none, which torch's cross entropy leaves out


@dataclass(frozen=True)
class Split:
    """images: (samples, height, width, channels) uint8, memory-mapped. labels: (samples,) int64, or UNLABELLED."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> np.ndarray:
        """(samples,) int32 positions of the images that have a label."""
        return np.flatnonzero(self.labels != UNLABELLED).astype(np.int32)


@dataclass(frozen=True)
class Info:
    """What a model has to know of the data. mean, std: per channel, of the training images scaled to [0, 1]."""

    classes: list[str]
    image_size: int
    mean: list[float]
    std: list[float]
    sha256: dict[str, str]


def save(
    images: np.ndarray, labels: np.ndarray, classes: list[str], splits: dict[str, np.ndarray], folder: Path
) -> Info:
    """Write the arrays of each split, then `dataset.json`, which holds their checksums.

    Args:
        images: (samples, height, width, channels) uint8. labels: (samples,) int64. splits: sample positions by name.
    """
    digests = {}
    for name, ids in splits.items():
        for kind, array in (("images", images[ids]), ("labels", labels[ids])):
            path = folder / f"{name}_{kind}.npy"
            files.write_array(path, array)
            digests[path.name] = files.sha256(path)
    train = images[splits["train"]] / np.float32(255)
    info = Info(
        classes=classes,
        image_size=images.shape[1],
        mean=[round(float(value), 6) for value in train.mean(axis=(0, 1, 2), dtype=np.float64)],
        std=[round(max(float(value), 1e-3), 6) for value in train.std(axis=(0, 1, 2), dtype=np.float64)],
        sha256=digests,
    )
    files.write_json(folder / "dataset.json", vars(info))
    return info


def open_info(folder: Path) -> Info:
    path = folder / "dataset.json"
    try:
        return Info(**files.read_json(path))
    except TypeError:
        raise PipelineError(f"{path} is not what `prepare` wrote; delete it and run `dvc repro`.") from None


def open_split(folder: Path, name: str) -> Split:
    """Memory-map one split, after its files have been checked against `dataset.json`."""
    digests = open_info(folder).sha256
    arrays: dict[str, Any] = {}
    for kind in ("images", "labels"):
        path = folder / f"{name}_{kind}.npy"
        arrays[kind] = files.open_array(path)
        if files.sha256(path) != digests.get(path.name):
            raise PipelineError(f"{path} is not what `prepare` wrote (its checksum differs); delete it, `dvc repro`.")
    return Split(**arrays)
