"""Where images come from. Each source gives uint8 images, labels, class names, and the splits it fixes itself.

A folder of images without labels joins any of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from tqdm import tqdm

from pipeline.images import decoding, fashion_mnist, labelled_files, listing, torchvision_sets
from pipeline.images.listing import Listed
from pipeline.params import TORCHVISION, Data
from pipeline.project import files
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError

BATCH = 2**20  # bytes of images that a thread makes in one go
MODES = {"gray": "L", "colour": "RGB"}  # what `data.mode` is called by Pillow


@dataclass(frozen=True)
class Source:
    """Labelled images, all of one size.

    images: (samples, height, width, channels) uint8, memory-mapped. labels: (samples,) int64, positions in `classes`,
    or UNLABELLED. fixed: (samples,) str: "train", "val" or "test" where the source says so, "" where it leaves the
    choice. skipped: a sentence for each image that could not be read and was left out.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    fixed: np.ndarray
    skipped: list[str] = field(default_factory=list)


def load(data: Data, raw: Path) -> Source:
    """Resolve `data.source`, add `data.unlabelled` and read every image, each once.

    Args:
        raw: the folder that keeps what was fetched, and while the source is in use a file of its pixels.
    Raises:
        PipelineError: what `data` names is missing or not as it should be, or an image can't be read and may not be
            left out.
    """
    listed, folder = _listed(data, raw), Path(data.unlabelled)
    if not folder.is_dir():
        raise PipelineError(f"`data.unlabelled` is {folder}, which is no folder; an empty one adds nothing.")
    more, known = decoding.image_files(folder), len(listed.labels)
    mode = MODES.get(data.mode, listed.mode)

    def read(position: int) -> np.ndarray:
        if position < known:
            return listed.read(position, data.image_size, mode)
        return decoding.decode(more[position - known], data.image_size, mode)

    images, skipped = _read_all(read, known + len(more), (data.image_size, data.image_size, len(mode)), raw)
    reasons = list(skipped.values())
    if skipped and data.on_error == "fail":
        others = f"{len(skipped) - 1:,} more can't be read; " if len(skipped) > 1 else ""
        raise PipelineError(f"{reasons[0]} {others}`data.on_error: skip` leaves out such images.")
    labels = np.delete(np.concatenate([listed.labels, np.full(len(more), UNLABELLED)]), list(skipped))
    fixed = np.delete(np.concatenate([listed.fixed, np.full(len(more), "")]), list(skipped))
    classes = listed.classes or [str(number) for number in range(labels.max(initial=0) + 1)]
    left = np.bincount(labels[(fixed == "") & (labels != UNLABELLED)], minlength=len(classes))
    if skipped and not left.all():
        raise PipelineError(f"No training image of the class `{classes[left.argmin()]}` is left: {reasons[0]}")
    return Source(images, labels, classes, fixed, reasons)


def _listed(data: Data, raw: Path) -> Listed:
    if data.source == "image_folder":
        return labelled_files.from_folders(Path(data.path))
    if data.source == "csv":
        return labelled_files.from_table(Path(data.path), data.csv)
    if data.source == "digits":
        return _digits()
    if data.source == "fashion_mnist":
        return fashion_mnist.listed(raw / "fashion-mnist")
    return torchvision_sets.listed(data.source.removeprefix(TORCHVISION), raw / "torchvision")


def _read_all(
    read: Callable[[int], np.ndarray], count: int, shape: tuple[int, int, int], folder: Path
) -> tuple[np.ndarray, dict[int, str]]:
    """Every image that can be read, memory-mapped, and by position why the others can not.

    The pixels are in a file without a name, which is gone with the array, or with the process, however it ends.
    """
    skipped = {}
    folder.mkdir(parents=True, exist_ok=True)
    with files.naming(folder), TemporaryFile(dir=folder) as file:
        made = decoding.each(read, count, max(1, min(64, BATCH // math.prod(shape))))
        for position, image in enumerate(tqdm(made, "reading images", count, disable=None, leave=False)):
            if isinstance(image, PipelineError):
                skipped[position] = str(image).encode(errors="backslashreplace").decode()  # JSON has no broken names
            else:
                file.write(np.ascontiguousarray(image))
        file.flush()
        if len(skipped) == count:  # no file of nothing can be mapped
            return np.empty((0, *shape), np.uint8), skipped
        return np.memmap(file, np.uint8, "r", shape=(count - len(skipped), *shape)), skipped


def _digits() -> Listed:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # 17 grey levels as they ship
    labels = digits.target.astype(np.int64)
    return listing.from_array(images, labels, [str(digit) for digit in range(10)], np.full(len(labels), ""))
