"""Where images come from. Each source gives uint8 images, labels, class names, and the splits it fixes itself.

A folder of images without labels joins any of them.
"""

import gzip
import hashlib
import http.client
import shutil
import subprocess
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline import decoding, files
from pipeline.data import UNLABELLED
from pipeline.errors import PipelineError
from pipeline.params import UNPRINTABLE, Data


@dataclass(frozen=True)
class Source:
    """Labelled images as they come.

    images: (samples, height, width, channels) uint8. labels: (samples,) int64, positions in `classes`, or UNLABELLED.
    fixed: (samples,) str: "train", "val" or "test" where the source says so, "" where it leaves the choice.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    fixed: np.ndarray


def load(data: Data, raw: Path) -> Source:
    """Resolve `data.source` and add `data.unlabelled`; `raw` is the folder that keeps what was fetched."""
    if data.source == "image_folder":
        source = _image_folder(Path(data.path), data.image_size)
    else:
        source = _fashion_mnist(raw / "fashion-mnist") if data.source == "fashion_mnist" else _digits()
        source = replace(source, images=_resize(source.images, data.image_size))
    return _with_unlabelled(source, Path(data.unlabelled))


def _with_unlabelled(source: Source, folder: Path) -> Source:
    """The source with every image below the folder, at the source's size and number of channels."""
    if not folder.is_dir():
        raise PipelineError(f"`data.unlabelled` is {folder}, which is no folder; an empty one adds nothing.")
    size, channels = source.images.shape[2:]
    added = _decode_all(decoding.image_files(folder), size, "L" if channels == 1 else "RGB")
    return Source(
        images=np.concatenate([source.images, added]) if len(added) else source.images,
        labels=np.concatenate([source.labels, np.full(len(added), UNLABELLED)]),
        classes=source.classes,
        fixed=np.concatenate([source.fixed, np.full(len(added), "")]),
    )


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[1:3] == (size, size):
        return images
    return np.stack([np.asarray(Image.fromarray(image[:, :, 0]).resize((size, size)))[:, :, None] for image in images])


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


def _fashion_mnist(folder: Path) -> Source:
    kept = any((folder / name).exists() for name in FASHION_MNIST)
    idx = _read_fashion(folder) if kept else _fetch_fashion(folder)
    images, labels = {}, {}
    for split in ("train", "t10k"):
        images[split] = np.frombuffer(idx[f"{split}-images-idx3-ubyte.gz"], np.uint8, offset=16).reshape(-1, 28, 28, 1)
        labels[split] = np.frombuffer(idx[f"{split}-labels-idx1-ubyte.gz"], np.uint8, offset=8)
    return Source(
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


def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # 17 grey levels as they ship
    labels = digits.target.astype(np.int64)
    return Source(images, labels, [str(digit) for digit in range(10)], np.full(len(labels), ""))


SPLITS = ("train", "val", "test")


def _image_folder(folder: Path, size: int) -> Source:
    """One folder per class, or `train`, `val`, `test` folders of such; RGB, cropped to a square and resized."""
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
    classes = sorted({name for _, name, fixed in found if fixed == ""})
    if not classes:
        raise PipelineError(f"{roots[0][0]} has no images; it should hold one folder per class with images inside.")
    if len(classes) == 1:
        raise PipelineError(f"{roots[0][0]} has the single class `{classes[0]}`; a classifier needs two or more.")
    for path, name, _ in found:
        if name not in classes:
            raise PipelineError(f"{path} is of the class `{name}`, of which there is no training image.")
    for name in classes:
        if UNPRINTABLE.search(name):  # neither JSON nor the tables can hold it
            raise PipelineError(f"{roots[0][0]} has a class folder {name!r}; its name should be text on one line.")
    images = _decode_all([path for path, _, _ in found], size, "RGB")
    labels = np.array([classes.index(name) for _, name, _ in found], dtype=np.int64)
    return Source(images, labels, classes, np.array([fixed for _, _, fixed in found]))


def _decode_all(paths: list[Path], size: int, mode: str) -> np.ndarray:
    """(images, size, size, channels) uint8; mode: Pillow's "L" or "RGB"."""
    images = np.empty((len(paths), size, size, len(mode)), np.uint8)
    for image, path in zip(images, tqdm(paths, "reading images", disable=None, leave=False), strict=True):
        image[:] = decoding.decode(path, size, mode)
    return images
