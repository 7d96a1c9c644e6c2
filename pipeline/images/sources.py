"""Where images come from. Each source gives uint8 images, labels, class names, and the splits it fixes itself.

A folder of images without labels joins any of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from tqdm import tqdm

from pipeline.images import decoding, fashion_mnist, labelled_files, listing, torchvision_sets
from pipeline.images.decoding import Decoded, Reading
from pipeline.images.listing import Listed
from pipeline.params import TORCHVISION, Data
from pipeline.project import errors, files
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError

BATCH = 2**20  # bytes of images that a thread makes in one go
MODES = {"gray": "L", "colour": "RGB"}  # what `data.mode` is called by Pillow
NAMED = 20  # files of which a sentence says why they can't be read
DEEP = 16  # bits of an image with more than 8, unless `data.bits` says that fewer are used


@dataclass(frozen=True)
class Source:
    """Labelled images, all of one size.

    images: (samples, height, width, channels) uint8, memory-mapped. labels: (samples,) int64, positions in `classes`,
    or UNLABELLED. fixed: (samples,) str: "train", "val" or "test" where the source says so, "" where it leaves the
    choice. groups: (samples,) str, of which none may be in two splits, or None. names: (samples,) what each is called.
    skipped: a sentence for each file that was left out. notes: what users should know of their data.
    whole: the images of these positions, each squeezed into a square of that side, and (samples,) float32 width by
    height of the originals.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    fixed: np.ndarray
    groups: np.ndarray | None = None
    names: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    whole: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] | None = None


def load(data: Data, raw: Path) -> Source:
    """Resolve `data.source`, add `data.unlabelled` and read every image, each once.

    Args:
        raw: the folder that keeps what was fetched, and while the source is in use a file of its pixels.
    Raises:
        PipelineError: what `data` names is missing or not as it should be, or an image can't be read and may not be
            left out.
    """
    of_source = _listed(data, raw)
    listed = _with_unlabelled(of_source, Path(data.unlabelled))
    reading = Reading(data.image_size, MODES.get(data.mode, listed.mode), data.background, data.bits or DEEP)
    every = np.arange(len(listed.fixed))
    made = _read_all(listed, every, reading, raw)
    skipped = [*map(errors.printable, made.failed.values()), *listed.misplaced]
    if skipped and data.on_error == "fail":
        raise PipelineError(_named(skipped))
    kept = np.delete(every, list(made.failed))
    if data.bits is None and len(kept):
        _check_bits(made.brightest, listed.name)
    unlabelled = np.full(len(every) - len(of_source.labels), UNLABELLED)
    labels, fixed = np.concatenate([of_source.labels, unlabelled])[kept], listed.fixed[kept]
    classes = listed.classes or [str(number) for number in range(labels.max(initial=0) + 1)]
    left = np.bincount(labels[np.isin(fixed, ("", "train")) & (labels != UNLABELLED)], minlength=len(classes))
    if skipped and not left.all():
        raise PipelineError(f"No training image of the class `{classes[left.argmin()]}` is left: {skipped[0]}")

    def whole(ids: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        again = _read_all(listed, kept[ids], replace(reading, size=side, whole=True), raw)
        for sentence in again.failed.values():  # of what could be read a moment ago
            raise PipelineError(sentence)
        return again.images, again.aspects

    groups = None if listed.groups is None else listed.groups[kept]
    names = [listed.name(at) for at in kept]
    return Source(made.images, labels, classes, fixed, groups, names, skipped, listed.notes, whole)


def _listed(data: Data, raw: Path) -> Listed:
    if data.source == "image_folder":
        return labelled_files.from_folders(Path(data.path), data.group)
    if data.source == "csv":
        return labelled_files.from_table(Path(data.path), data.csv, data.group)
    if data.source == "digits":
        return _digits()
    if data.source == "fashion_mnist":
        return fashion_mnist.listed(raw / "fashion-mnist")
    return torchvision_sets.listed(data.source.removeprefix(TORCHVISION), raw / "torchvision")


def _with_unlabelled(listed: Listed, folder: Path) -> Listed:
    """The images of the folder after those of the source, but for their labels."""
    if not folder.is_dir():
        raise PipelineError(f"`data.unlabelled` is {folder}, which is no folder; an empty one adds nothing.")
    more = decoding.files_below(folder)
    known, alone = len(listed.labels), np.full(len(more), "")

    def read(position: int, reading: Reading) -> Decoded:
        if position < known:
            return listed.read(position, reading)
        return decoding.decode(more[position - known], reading)

    return replace(
        listed,
        read=read,
        name=lambda at: listed.name(at) if at < known else errors.printable(more[at - known]),
        fixed=np.concatenate([listed.fixed, alone]),
        groups=None if listed.groups is None else np.concatenate([listed.groups, alone]),
    )


def _named(skipped: list[str]) -> str:
    more = [f"{len(skipped) - NAMED:,} more can't be used."] if len(skipped) > NAMED else []
    said = [*skipped[:NAMED], *more, "`data.on_error: skip` leaves out such files and lists them."]
    return (" " if len(skipped) == 1 else "\n       ").join(said)


def _check_bits(brightest: np.ndarray, name: Callable[[int], str]) -> None:
    """Refuse images of 16 bits that use so few of them that they would come out nearly black."""
    first = int(brightest.argmax())
    value = int(brightest[first])
    if 0 < value < 2 ** (DEEP - 1):
        raise PipelineError(
            f"The brightest value of all images of 16 bits is {value:,} of 65,535, in {name(first)}: they would be "
            f"nearly black. Set `data.bits` to how many bits are used, such as {max(8, value.bit_length())}, or to 16 "
            "if they are as dark as that."
        )


@dataclass(frozen=True)
class Made:
    """What could be read.

    images: as of Source. aspects: (samples,) float32, width by height of the originals. brightest: (asked for,) int,
    the largest value of each image of 16 bits, else 0. failed: by position why an image can't be read.
    """

    images: np.ndarray
    aspects: np.ndarray
    brightest: np.ndarray
    failed: dict[int, str]


def _read_all(listed: Listed, positions: np.ndarray, reading: Reading, folder: Path) -> Made:
    """The images of these positions, memory-mapped.

    The pixels are in a file without a name, which is gone with the array, or with the process, however it ends.
    """
    count, shape, failed = len(positions), (reading.size, reading.size, len(reading.mode)), {}
    aspects, brightest = np.zeros(count, np.float32), np.zeros(count, np.int32)
    folder.mkdir(parents=True, exist_ok=True)
    with files.naming(folder), TemporaryFile(dir=folder) as file:
        batch = max(1, min(64, BATCH // math.prod(shape)))
        decoded = decoding.each(lambda at: listed.read(int(positions[at]), reading), count, batch)
        for at, image in enumerate(tqdm(decoded, "reading images", count, disable=None, leave=False)):
            if isinstance(image, PipelineError):
                failed[at] = str(image)
            else:
                file.write(np.ascontiguousarray(image.pixels))
                _, aspects[at], brightest[at] = image
        file.flush()
        aspects = np.delete(aspects, list(failed))
        if len(failed) == count:  # no file of nothing can be mapped
            return Made(np.empty((0, *shape), np.uint8), aspects, brightest, failed)
        return Made(np.memmap(file, np.uint8, "r", shape=(len(aspects), *shape)), aspects, brightest, failed)


def _digits() -> Listed:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # 17 grey levels as they ship
    labels = digits.target.astype(np.int64)
    return listing.from_array(images, labels, [str(digit) for digit in range(10)], np.full(len(labels), ""))
