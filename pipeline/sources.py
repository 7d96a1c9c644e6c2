"""Where images come from. Each source gives uint8 images, labels, class names, and the splits it fixes itself.

A folder of images without labels joins any of them.
"""

import csv
import difflib
import gzip
import hashlib
import http.client
import inspect
import math
import os
import shutil
import socket
import subprocess
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, TemporaryFile

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline import decoding, files
from pipeline.data import UNLABELLED
from pipeline.errors import PipelineError
from pipeline.params import TORCHVISION, UNPRINTABLE, Data

SPLITS = ("train", "val", "test")
TORCHVISION_SPLITS = {  # by the word that the data set is asked with: each split, and what it may be called
    "train": {"": [True], "test": [False]},
    "split": {"": ["train", "trainval"], "val": ["val", "valid"], "test": ["test"]},
}
TIMEOUT = 20.0  # seconds without an answer
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


def load(data: Data, raw: Path) -> Source:
    """Resolve `data.source`, add `data.unlabelled` and read every image, each once.

    Args:
        raw: the folder that keeps what was fetched, and while the source is in use a file of its pixels.
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
    if skipped and data.on_error == "fail":
        others = f"{len(skipped) - 1:,} more can't be read; " if len(skipped) > 1 else ""
        raise PipelineError(f"{next(iter(skipped.values()))} {others}`data.on_error: skip` leaves out such images.")
    kept = np.delete(np.arange(known + len(more)), list(skipped))
    labels = np.concatenate([listed.labels, np.full(len(more), UNLABELLED)])[kept]
    fixed = np.concatenate([listed.fixed, np.full(len(more), "")])[kept]
    classes = listed.classes or [str(number) for number in range(labels.max(initial=0) + 1)]
    left = np.bincount(labels[(fixed == "") & (labels != UNLABELLED)], minlength=len(classes))
    if skipped and not left.all():
        first = next(iter(skipped.values()))
        raise PipelineError(f"No training image of the class `{classes[left.argmin()]}` is left: {first}")
    return Source(images, labels, classes, fixed, list(skipped.values()))


def _listed(data: Data, raw: Path) -> Listed:
    if data.source == "image_folder":
        return _image_folder(Path(data.path))
    if data.source == "csv":
        return _csv(Path(data.path), data.csv)
    if data.source == "digits":
        return _digits()
    if data.source == "fashion_mnist":
        return _fashion_mnist(raw / "fashion-mnist")
    return _torchvision(data.source.removeprefix(TORCHVISION), raw / "torchvision")


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


def _of_array(images: np.ndarray, labels: np.ndarray, classes: list[str], fixed: np.ndarray) -> Listed:
    """images: (samples, height, width, 1) uint8."""

    def read(position: int, size: int, mode: str) -> np.ndarray:
        return decoding.square(Image.fromarray(images[position, :, :, 0]), size, mode)

    return Listed(read, "L", labels, classes, fixed)


# Fashion-MNIST (Xiao et al. 2017), MIT licence: sha256 of each file's content, since mirrors compress differently.
FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FASHION_CLASSES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LARGEST_FILE = 64 * 2**20  # bytes; the largest of the four is 47 MB unpacked


def _fashion_mnist(folder: Path) -> Listed:
    kept = any((folder / name).exists() for name in FASHION_MNIST)
    idx = _read_fashion(folder) if kept else _fetch_fashion(folder)
    images, labels = {}, {}
    for split in ("train", "t10k"):
        images[split] = np.frombuffer(idx[f"{split}-images-idx3-ubyte.gz"], np.uint8, offset=16).reshape(-1, 28, 28, 1)
        labels[split] = np.frombuffer(idx[f"{split}-labels-idx1-ubyte.gz"], np.uint8, offset=8)
    return _of_array(
        images=np.concatenate([images["train"], images["t10k"]]),
        labels=np.concatenate([labels["train"], labels["t10k"]]).astype(np.int64),
        classes=FASHION_CLASSES,
        fixed=np.array([""] * len(labels["train"]) + ["test"] * len(labels["t10k"])),
    )


def _read_fashion(folder: Path) -> dict[str, bytes]:
    """The four files' content, each checked; raises PipelineError on the first that is missing or differs."""
    contents = {}
    for name, digest in FASHION_MNIST.items():
        path = folder / name
        try:
            with gzip.open(path) as file:
                content = file.read(LARGEST_FILE)
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing; delete the folder {folder} to fetch the data again.") from None
        except (EOFError, OSError, zlib.error):
            content = b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise PipelineError(f"{path} is cut short or corrupt (its checksum differs); delete it with its folder.")
        contents[name] = content
    return contents


def _fetch_fashion(folder: Path) -> dict[str, bytes]:
    """Try each place in turn, check what it gives, and keep it in `folder`, whole or not at all."""
    tried = []
    for place, fetch in _FASHION_PLACES.items():
        with TemporaryDirectory() as name:
            scratch = Path(name)
            try:
                found = fetch(scratch)
                contents = _read_fashion(found)
            except (PipelineError, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
                tried.append(f"{place} ({_reason(error)})")
                continue
            for file in FASHION_MNIST:
                with files.replacing(folder / file) as temporary:
                    shutil.copyfile(found / file, temporary)
        print(f"Fashion-MNIST: from {place}, checked", flush=True)
        return contents
    places = "\n         ".join(tried)
    raise PipelineError(
        f"Fashion-MNIST can't be found or fetched. Put its four .gz files into {folder}. Tried:\n         {places}"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else f"exit status {error.returncode}"
    return str(getattr(error, "reason", error)).split("; ")[0]


def _from_debian_folder(scratch: Path) -> Path:
    return DEBIAN_FOLDER


def _from_debian_package(scratch: Path) -> Path:
    """Download and unpack the package without root and without touching the system's package lists."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    apt = ["apt-get", "-qq", f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]
    for command in (
        [*apt, "update"],
        [*apt, "download", DEBIAN_PACKAGE],
        ["sh", "-c", 'dpkg-deb -x "$1"_*.deb unpacked', "sh", DEBIAN_PACKAGE],
    ):
        subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=300)
    return scratch / "unpacked" / DEBIAN_FOLDER.relative_to("/")


def _from_mirrors(scratch: Path) -> Path:
    from torchvision.datasets import FashionMNIST  # slow to import, and rarely needed

    for name in FASHION_MNIST:
        for attempt, mirror in enumerate(FashionMNIST.mirrors, start=1):
            try:
                with urllib.request.urlopen(mirror + name, timeout=20) as answer:  # noqa: S310 (torchvision's own addresses)
                    (scratch / name).write_bytes(answer.read(LARGEST_FILE))
                break
            except (OSError, http.client.HTTPException):
                if attempt == len(FashionMNIST.mirrors):
                    raise
    return scratch


_FASHION_PLACES: dict[str, Callable[[Path], Path]] = {
    f"the folder {DEBIAN_FOLDER}": _from_debian_folder,
    f"the Debian package {DEBIAN_PACKAGE}": _from_debian_package,
    "torchvision's mirrors": _from_mirrors,
}


def _digits() -> Listed:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # 17 grey levels as they ship
    labels = digits.target.astype(np.int64)
    return _of_array(images, labels, [str(digit) for digit in range(10)], np.full(len(labels), ""))


def _image_folder(folder: Path) -> Listed:
    """One folder per class, or `train`, `val`, `test` folders of such."""
    if not folder.is_dir():
        raise PipelineError(f"`data.path` is {folder}, which is no folder; it should hold one folder per class.")
    splits = [name for name in SPLITS if (folder / name).is_dir()]
    if splits and "train" not in splits:
        raise PipelineError(f"{folder} has a folder `{splits[0]}` but no folder `train`.")
    roots = [(folder / name, "" if name == "train" else name) for name in splits] or [(folder, "")]
    found = [
        (path, path.relative_to(root).parts[0], fixed)
        for root, fixed in roots
        for path in decoding.image_files(root, "*/**/*")
    ]
    if not any(fixed == "" for _, _, fixed in found):
        raise PipelineError(f"{roots[0][0]} has no images; it should hold one folder per class with images inside.")
    return _of_files(found, roots[0][0])


def _of_files(found: list[tuple[Path, str, str]], where: Path) -> Listed:
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


COLUMNS = ("path", "label")


def _csv(folder: Path, name: str) -> Listed:
    """A table of image files below its folder: `path`, `label` and, if it likes, `split`.

    Rows are taken in the order of their paths, so that the same table in another order is the same data.
    """
    table, found = folder / name, {}
    for line, row in _rows(table):
        path, label, split = (row.get(column, "").strip() for column in (*COLUMNS, "split"))
        for column in COLUMNS:
            if not row[column].strip():
                raise PipelineError(f"{table}, line {line}: `{column}` is blank.")
        if split not in ("", *SPLITS):
            raise PipelineError(f"{table}, line {line}: `split` is {split!r}; it should be train, val, test or blank.")
        inside = PurePosixPath(os.path.normpath(path))
        if inside.is_absolute() or ".." in inside.parts:
            raise PipelineError(f"{table}, line {line}: {path} is outside of {folder}, the folder of the table.")
        if inside in found:
            raise PipelineError(f"{table}, line {line}: {path} has stood in line {found[inside][0]} already.")
        found[inside] = line, label, "" if split == "train" else split
    if not any(split == "" for _, _, split in found.values()):
        raise PipelineError(f"{table} has no rows of training images.")
    order = sorted(found, key=lambda inside: (SPLITS.index(found[inside][2] or "train"), inside))
    return _of_files([(folder / inside, *found[inside][1:]) for inside in order], table)


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a csv file with the columns of `_csv`, each with its line."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            for column in COLUMNS:
                if column not in columns:
                    raise PipelineError(f"{table} has no column `{column}`; it has {', '.join(columns) or 'no line'}.")
            for column in columns:
                if column not in (*COLUMNS, "split") or columns.count(column) > 1:
                    raise PipelineError(f"{table} has a column {column!r} too many; known are path, label and split.")
            for row in reader:
                if len(row) != len(columns) or None in row.values():
                    raise PipelineError(f"{table}, line {reader.line_num}: should have {len(columns)} columns.")
                yield reader.line_num, row
    except (FileNotFoundError, NotADirectoryError):
        raise PipelineError(
            f"{table} is missing; `data.path` is the folder of the images and of `data.csv`, a table of them."
        ) from None
    except UnicodeDecodeError:
        raise PipelineError(f"{table} is not UTF-8 text.") from None
    except csv.Error as error:
        raise PipelineError(f"{table}, line {reader.line_num}: not valid CSV: {error}.") from None


def _torchvision(name: str, folder: Path) -> Listed:
    """A data set of torchvision, fetched into the folder: one of images with a class each, in splits."""
    parts = _fetch_torchvision(name, folder)
    starts = np.cumsum([0, *(len(part) for _, part in parts)])
    labels = np.zeros(starts[-1], np.int64)  # each known when its image is read, to which no other way leads

    def read(position: int, size: int, mode: str) -> np.ndarray:
        number = int(np.searchsorted(starts, position, side="right")) - 1
        try:
            image, label = parts[number][1][position - int(starts[number])]
        except Exception as error:  # whatever a data set does with a damaged file
            raise PipelineError(f"Image {position} of {TORCHVISION}{name} can't be read ({error}).") from None
        labels[position] = label
        return decoding.square(image, size, mode)

    first = parts[0][1]
    image, label = first[0]
    if not isinstance(image, Image.Image) or not isinstance(label, int | np.integer):
        raise PipelineError(f"`data.source` is {TORCHVISION}{name}, whose samples are no images with a class each.")
    names = [each if isinstance(each, str) else each[0] for each in getattr(first, "classes", None) or []]
    fixed = np.repeat([split for split, _ in parts], np.diff(starts))
    return Listed(read, "L" if image.mode in ("1", "L", "I;16") else "RGB", labels, names, fixed)


def _fetch_torchvision(name: str, folder: Path) -> list[tuple[str, Sequence]]:
    """Each split that the data set has, as of Source, with its samples; what is in the folder is not fetched again."""
    from torchvision import datasets  # slow to import, and rarely needed

    known = {each for each in datasets.__all__ if _has_splits(getattr(datasets, each))}
    if name not in known:
        close = ", ".join(difflib.get_close_matches(name, known, n=1, cutoff=0.3)) or "CIFAR10"
        raise PipelineError(
            f"`data.source` is {TORCHVISION}{name}, which is no data set of torchvision that comes in splits and can "
            f"be downloaded; did you mean {TORCHVISION}{close}?"
        )
    made = getattr(datasets, name)
    word, in_general = "train" if "train" in inspect.signature(made).parameters else "split", socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        parts = {split: _part(made, folder, word, values) for split, values in TORCHVISION_SPLITS[word].items()}
    except (OSError, RuntimeError, ValueError, ImportError, http.client.HTTPException) as error:
        raise PipelineError(
            f"{TORCHVISION}{name} can't be fetched ({_reason(error)}); its files may also be put into {folder}."
        ) from None
    finally:
        socket.setdefaulttimeout(in_general)
    return [(split, part) for split, part in parts.items() if part is not None]


def _part(made: type, folder: Path, word: str, values: list[bool | str]) -> Sequence | None:
    """One split, by the first of these that the data set calls one of its own."""
    for value in values:
        try:
            return made(folder, download=True, **{word: value})
        except ValueError as error:
            if "Unknown value" not in str(error):
                raise
    return None


def _has_splits(made: type) -> bool:
    words = inspect.signature(made).parameters
    needed = [name for name, word in words.items() if word.default is word.empty and word.kind is not word.VAR_KEYWORD]
    return needed == ["root"] and "download" in words and ("train" in words or "split" in words)
