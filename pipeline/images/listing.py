"""Labelled images that are still to be read, from an array or from files."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.images import decoding
from pipeline.images.decoding import Decoded, Reading
from pipeline.params import UNPRINTABLE
from pipeline.project import errors
from pipeline.project.errors import PipelineError


@dataclass(frozen=True)
class Listed:
    """Labelled images that are still to be read.

    read: an image by its position. name: what it is called in a sentence. mode: Pillow's, as they come.
    labels, classes, fixed, groups: as of pipeline.images.sources.Source; labels may be known only after reading, and an
    empty list of classes stands for their numbers. misplaced: a sentence for each file that can't be an image of a
    class, where it stands. notes: what users should know of how their files were taken.
    """

    read: Callable[[int, Reading], Decoded]
    name: Callable[[int], str]
    mode: str
    labels: np.ndarray
    classes: list[str]
    fixed: np.ndarray
    groups: np.ndarray | None = None
    misplaced: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class File(NamedTuple):
    """A labelled image file. fixed: its split, or "". group: what may not be in two splits, or ""."""

    path: Path
    label: str
    fixed: str
    group: str = ""


def from_array(images: np.ndarray, labels: np.ndarray, classes: list[str], fixed: np.ndarray) -> Listed:
    """images: (samples, height, width, 1) uint8. The others: as of Listed."""

    def read(position: int, reading: Reading) -> Decoded:
        return decoding.square(Image.fromarray(images[position, :, :, 0]), reading)

    return Listed(read, "image {}".format, "L", labels, classes, fixed)


def from_files(files: list[File], where: Path, misplaced: list[str], notes: list[str]) -> Listed:
    """Image files, each with its class, its split and its group.

    Args:
        where: the folder or table that says so. misplaced, notes: as of Listed.
    Raises:
        PipelineError: there is one class alone, one without a training image, two that differ in their spelling alone,
            or one whose name can't be printed.
    """
    classes = sorted({file.label for file in files if file.fixed in ("", "train")}, key=_natural)
    _tell_apart(sorted({file.label for file in files}), where)
    if len(classes) == 1:
        raise PipelineError(f"{where} has the single class `{classes[0]}`; a classifier needs two or more.")
    for file in files:
        if file.label not in classes:
            raise PipelineError(f"{file.path} is of the class `{file.label}`, of which there is no training image.")
    for name in classes:
        if UNPRINTABLE.search(name):  # neither JSON nor the tables can hold it
            raise PipelineError(f"{where} has a class {name!r}; its name should be text on one line.")
    number = {name: index for index, name in enumerate(classes)}
    groups = np.array([file.group for file in files])
    return Listed(
        read=lambda position, reading: decoding.decode(files[position].path, reading),
        name=lambda position: errors.printable(files[position].path),
        mode="RGB",
        labels=np.array([number[file.label] for file in files], dtype=np.int64),
        classes=classes,
        fixed=np.array([file.fixed for file in files]),
        groups=groups if (groups != "").any() else None,
        misplaced=misplaced,
        notes=notes,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """The order of people: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _tell_apart(names: list[str], where: Path) -> None:
    """Refuse classes whose names say the same: `1` and `1.0`, `Cat` and `cat`, an é of one character and of two."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if re.fullmatch(r"\d+(\.\d+)?", key, re.ASCII):
            key = repr(float(key))
        if (other := seen.setdefault(key, name)) != name:
            how = " as text alone" if other.casefold() != name.casefold() else " in upper and lower case alone"
            if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name):
                how = " in how accents are encoded alone"
            raise PipelineError(
                f"{where} has the classes `{other}` and `{name}`, which differ{how}; give both one name, or two that "
                "tell them apart."
            )
