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
    labels, classes, fixed: as of Source; labels may be known only after reading, and classes have no names but
    their numbers where the list is empty.
    """

    read: Callable[[int, int, str], np.ndarray]
    mode: str
    labels: np.ndarray
    classes: list[str]
    fixed: np.ndarray


def of_array(images: np.ndarray, labels: np.ndarray, classes: list[str], fixed: np.ndarray) -> Listed:
    """images: (samples, height, width, 1) uint8."""

    def read(position: int, size: int, mode: str) -> np.ndarray:
        return decoding.square(Image.fromarray(images[position, :, :, 0]), size, mode)

    return Listed(read, "L", labels, classes, fixed)


def of_files(found: list[tuple[Path, str, str]], where: Path) -> Listed:
    """Image files, each with its class and its split or "" for one that may be of any. where: that says so."""
    classes = sorted({name for _, name, fixed in found if fixed == ""})
    if len(classes) == 1:
        raise PipelineError(f"{where} has the single class `{classes[0]}`; a classifier needs two or more.")
    for path, name, _ in found:
        if name not in classes:
            raise PipelineError(f"{path} is of the class `{name}`, of which there is no training image.")
    for name in classes:
        if UNPRINTABLE.search(name):  # neither JSON nor the tables can hold it
            raise PipelineError(f"{where} has a class {name!r}; its name should be text on one line.")
    number = {name: index for index, name in enumerate(classes)}
    return Listed(
        read=lambda position, size, mode: decoding.decode(found[position][0], size, mode),
        mode="RGB",
        labels=np.array([number[name] for _, name, _ in found], dtype=np.int64),
        classes=classes,
        fixed=np.array([fixed for _, _, fixed in found]),
    )
