"""The prepared data set: how the arrays lie on disk, and how they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.project import files
from pipeline.project.errors import PipelineError

UNLABELLED = -100  # the label of an image that has none, which torch's cross entropy leaves out
CHUNK = 2**24  # bytes of images in memory while they are prepared


@dataclass(frozen=True)
class Split:
    """images: (samples, height, width, channels) uint8, memory-mapped. labels: (samples,) int64, or UNLABELLED.

    aspects: (samples,) float32, width by height of each original, whole and squeezed to a square in `images`; None: the
    middle square was cut out of each.
    """

    images: np.ndarray
    labels: np.ndarray
    aspects: np.ndarray | None = None

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
    """Write the arrays of each split, then `dataset.json`, whose digests tell these data from others.

    Args:
        images: (samples, height, width, channels) uint8, of which no more than CHUNK bytes are held at a time.
        labels: (samples,) int64. splits: sample positions by name.
    """
    digests, shape = {}, images.shape[1:]
    counts = np.zeros((shape[-1], 256), np.int64)  # of each value in each channel of the training images
    for name, ids in splits.items():
        pixels, answers = folder / f"{name}_images.npy", folder / f"{name}_labels.npy"
        chunks = in_chunks(images, ids)
        if name == "train":
            chunks = _counted(chunks, counts)
        files.write_chunks(pixels, (len(ids), *shape), images.dtype, chunks)
        files.write_array(answers, labels[ids])
        digests |= {path.name: files.sha256(path) for path in (pixels, answers)}
    values = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float64)
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    info = Info(
        classes=classes,
        image_size=shape[0],
        mean=[round(float(value), 6) for value in mean],
        std=[round(max(float(value), 1e-3), 6) for value in std],
        sha256=digests,
    )
    files.write_json(folder / "dataset.json", vars(info))
    return info


def in_chunks(images: np.ndarray, ids: np.ndarray) -> Iterator[np.ndarray]:
    """The images at these positions, of at most CHUNK bytes at a time."""
    rows = max(1, CHUNK // max(1, images[:1].nbytes))
    for start in range(0, len(ids), rows):
        yield images[ids[start : start + rows]]
        files.forget(images)


def _counted(chunks: Iterator[np.ndarray], counts: np.ndarray) -> Iterator[np.ndarray]:
    """The chunks; how often they have each value is added to `counts`, (channels, 256)."""
    for chunk in chunks:
        for channel, of_channel in enumerate(counts):
            of_channel += np.bincount(chunk[..., channel].ravel(), minlength=256)
        yield chunk


def open_info(folder: Path) -> Info:
    path = folder / "dataset.json"
    try:
        return Info(**files.read_json(path))
    except TypeError:
        raise PipelineError(f"{path} is not what `prepare` wrote; delete it and run `dvc repro`.") from None


def open_split(folder: Path, name: str) -> Split:
    """Memory-map one split."""
    return Split(*(files.open_array(folder / f"{name}_{kind}.npy") for kind in ("images", "labels")))
