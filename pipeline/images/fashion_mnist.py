"""Fashion-MNIST, from the first place that has it, checked."""

import gzip
import hashlib
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.images import listing, torchvision_sets
from pipeline.images.listing import Listed
from pipeline.project import files
from pipeline.project.errors import PipelineError, reason

# Fashion-MNIST (Xiao et al. 2017), MIT licence: sha256 of each file's content, since mirrors compress differently.
FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LARGEST_FILE = 64 * 2**20  # bytes; the largest of the four is 47 MB unpacked


def listed(folder: Path) -> Listed:
    """The 70,000 images of 28 pixels a side, the last 10,000 as test, read from the folder or fetched into it."""
    kept = any((folder / name).exists() for name in FILES)
    idx = _read(folder) if kept else _fetch(folder)
    images = [np.frombuffer(idx[f"{split}-images-idx3-ubyte.gz"], np.uint8, offset=16) for split in ("train", "t10k")]
    labels = [np.frombuffer(idx[f"{split}-labels-idx1-ubyte.gz"], np.uint8, offset=8) for split in ("train", "t10k")]
    return listing.from_array(
        images=np.concatenate(images).reshape(-1, 28, 28, 1),
        labels=np.concatenate(labels).astype(np.int64),
        classes=CLASSES,
        fixed=np.repeat(["", "test"], [len(part) for part in labels]),
    )


def _read(folder: Path) -> dict[str, bytes]:
    """The four files' content, each checked; raises PipelineError on the first that is missing or differs."""
    contents = {}
    for name, digest in FILES.items():
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


def _fetch(folder: Path) -> dict[str, bytes]:
    """Try each place in turn, check what it gives, and keep it in `folder`, whole or not at all."""
    tried = []
    for place, fetch in PLACES.items():
        with TemporaryDirectory() as name:
            scratch = Path(name)
            try:
                fetched = fetch(scratch)
                contents = _read(fetched)
            except (PipelineError, OSError, subprocess.SubprocessError) as error:
                tried.append(f"{place} ({reason(error)})")
                continue
            for file in FILES:
                with files.atomic_write(folder / file) as temporary:
                    shutil.copyfile(fetched / file, temporary)
        print(f"Fashion-MNIST: from {place}, checked", flush=True)
        return contents
    places = "\n         ".join(tried)
    raise PipelineError(
        f"Fashion-MNIST can't be found or fetched. Put its four .gz files into {folder}. Tried:\n         {places}"
    )


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
    torchvision_sets.fetch("FashionMNIST", scratch)
    return scratch / "FashionMNIST/raw"


PLACES: dict[str, Callable[[Path], Path]] = {
    f"the folder {DEBIAN_FOLDER}": lambda scratch: DEBIAN_FOLDER,
    f"the Debian package {DEBIAN_PACKAGE}": _from_debian_package,
    "torchvision's mirrors": _from_mirrors,
}
