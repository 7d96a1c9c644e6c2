"""Labelled images that are still to be read, from an array or from files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.images import decoding
from pipeline.params import UNPRINTABLE
from pipeline.project.errors import PipelineError


@dataclass(frozen=True)
class Listed:
    """Labelled images that are still to be read.

    read: (position, side in pixels, Pillow's mode) to (side, side, channels) uint8. mode: Pillow's, as they come.
    labels, classes, fixed: as of pipeline.images.sources.Source; labels may be known only after reading, and an empty
    list of classes stands for their numbers.
    """

    read: Callable[[int, int, str], np.ndarray]
    mode: str
    labels: np.ndarray
    classes: list[str]
    fixed: np.ndarray


def from_array(images: np.ndarray, labels: np.ndarray, classes: list[str], fixed: np.ndarray) -> Listed:
    """images: (samples, height, width, 1) uint8. The others: as of Listed."""

    def read(position: int, size: int, mode: str) -> np.ndarray:
        return decoding.square(Image.fromarray(images[position, :, :, 0]), size, mode)

    return Listed(read, "L", labels, classes, fixed)


def from_files(listed: list[tuple[Path, str, str]], where: Path) -> Listed:
    """Image files, each with its class and its split.

    Args:
        listed: (path, class, split), "" for a split that is still to be drawn. where: the folder or table that says so.
    Raises:
        PipelineError: there is one class alone, one without a training image, or one whose name can't be printed.
    """
    classes = sorted({name for _, name, fixed in listed if fixed == ""})
    if len(classes) == 1:
        raise PipelineError(f"{where} has the single class `{classes[0]}`; a classifier needs two or more.")
    for path, name, _ in listed:
        if name not in classes:
            raise PipelineError(f"{path} is of the class `{name}`, of which there is no training image.")
    for name in classes:
        if UNPRINTABLE.search(name):  # neither JSON nor the tables can hold it
            raise PipelineError(f"{where} has a class {name!r}; its name should be text on one line.")
    number = {name: index for index, name in enumerate(classes)}
    return Listed(
        read=lambda position, size, mode: decoding.decode(listed[position][0], size, mode),
        mode="RGB",
        labels=np.array([number[name] for _, name, _ in listed], dtype=np.int64),
        classes=classes,
        fixed=np.array([fixed for _, _, fixed in listed]),
    )
