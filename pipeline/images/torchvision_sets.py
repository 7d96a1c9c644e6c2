"""torchvision's data sets by name: those of images with a class each, in splits, that can be downloaded."""

import difflib
import http.client
import inspect
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.images import decoding
from pipeline.images.decoding import Decoded, Reading
from pipeline.images.listing import Listed
from pipeline.params import TORCHVISION
from pipeline.project.errors import PipelineError, reason

SPLITS = {  # by the word that the data set is asked with: each split, and what it may be called
    "train": {"": [True], "test": [False]},
    "split": {"": ["train", "trainval"], "val": ["val", "valid"], "test": ["test"]},
}
TIMEOUT = 20.0  # seconds without an answer


def listed(name: str, folder: Path) -> Listed:
    """A data set of torchvision, fetched into the folder.

    Raises:
        PipelineError: torchvision has none of that name with splits, it can't be fetched, or it has no classes.
    """
    parts = fetch(name, folder)
    starts = np.cumsum([0, *(len(part) for _, part in parts)])
    labels = np.zeros(starts[-1], np.int64)  # each known when its image is read, to which no other way leads

    def read(position: int, reading: Reading) -> Decoded:
        number = int(np.searchsorted(starts, position, side="right")) - 1
        try:
            image, label = parts[number][1][position - int(starts[number])]
        except Exception as error:  # whatever a data set does with a damaged file
            raise PipelineError(f"Image {position} of {TORCHVISION}{name} can't be read ({error}).") from None
        labels[position] = label
        return decoding.square(image, reading)

    first = parts[0][1]
    image, label = first[0]
    if not isinstance(image, Image.Image) or not isinstance(label, int | np.integer):
        raise PipelineError(f"`data.source` is {TORCHVISION}{name}, whose samples are no images with a class each.")
    names = [each if isinstance(each, str) else each[0] for each in getattr(first, "classes", None) or []]
    fixed = np.repeat([split for split, _ in parts], np.diff(starts))
    mode = "L" if image.mode in ("1", "L", "I;16") else "RGB"
    return Listed(read, f"image {{}} of {TORCHVISION}{name}".format, mode, labels, names, fixed)


def fetch(name: str, folder: Path) -> list[tuple[str, Sequence]]:
    """The data set's splits, each with its samples; what is in the folder is not fetched again.

    Returns:
        (split, samples): as of pipeline.images.sources.Source.fixed, and images with their classes.
    """
    from torchvision import datasets  # slow to import, and rarely needed

    known = {each for each in datasets.__all__ if _has_splits(getattr(datasets, each))}
    if name not in known:
        close = ", ".join(difflib.get_close_matches(name, known, n=1, cutoff=0.3)) or "CIFAR10"
        raise PipelineError(
            f"`data.source` is {TORCHVISION}{name}, which is no data set of torchvision that comes in splits and can "
            f"be downloaded; did you mean {TORCHVISION}{close}?"
        )
    kind, usual = getattr(datasets, name), socket.getdefaulttimeout()
    word = "train" if "train" in inspect.signature(kind).parameters else "split"
    socket.setdefaulttimeout(TIMEOUT)
    try:
        parts = {split: _part(kind, folder, word, values) for split, values in SPLITS[word].items()}
    except (OSError, RuntimeError, ValueError, ImportError, http.client.HTTPException) as error:
        why = " ".join(reason(error).split())  # torchvision names each mirror in a line of its own
        raise PipelineError(
            f"{TORCHVISION}{name} can't be fetched ({why}); its files may also be put into {folder}."
        ) from None
    finally:
        socket.setdefaulttimeout(usual)
    return [(split, part) for split, part in parts.items() if part is not None]


def _part(kind: type, folder: Path, word: str, values: list[bool | str]) -> Sequence | None:
    """One split, by the first of these that the data set calls one of its own."""
    for value in values:
        try:
            return kind(folder, download=True, **{word: value})
        except ValueError as error:
            if "Unknown value" not in str(error):
                raise
    return None


def _has_splits(kind: type) -> bool:
    words = inspect.signature(kind).parameters
    needed = [name for name, word in words.items() if word.default is word.empty and word.kind is not word.VAR_KEYWORD]
    return needed == ["root"] and "download" in words and ("train" in words or "split" in words)
