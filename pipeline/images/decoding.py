"""An image file to pixels, the same way for training and for serving."""

import contextlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.project.errors import PipelineError

with contextlib.suppress(ImportError):  # a service may do without
    import pillow_heif

    pillow_heif.register_heif_opener()
Image.init()
FORMATS = sorted(set(Image.OPEN) - {"EPS"})  # EPS is a program, which Pillow would give to Ghostscript to run
SUFFIXES = {suffix for suffix, form in Image.registered_extensions().items() if form in FORMATS}
LARGEST = 100_000_000  # pixels; more is taken for a file that means to fill the memory
Image.MAX_IMAGE_PIXELS = LARGEST // 2  # Pillow refuses twice as many, and before that warns without a file's name
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
CLUTTER = ("Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir")  # that systems leave, beside what is hidden


@dataclass(frozen=True)
class Reading:
    """How a file becomes pixels.

    size: pixels a side. mode: Pillow's "L" for one channel or "RGB" for three. background: a colour as Pillow reads
    it, below what is transparent. bits: of the values of images of 16 bits, 8 to 16. whole: squeeze the whole image
    into the square instead of cropping its middle.
    """

    size: int
    mode: str
    background: str = "white"
    bits: int = 16
    whole: bool = False


class Decoded(NamedTuple):
    """pixels: (size, size, channels) uint8. aspect: the original's width by its height. brightest: the largest value
    of an image of 16 bits, 0 of any other.
    """

    pixels: np.ndarray
    aspect: float
    brightest: int


def decode(path: Path | BytesIO, reading: Reading) -> Decoded:
    """Upright, on the background, cropped to a square in the middle or squeezed into one, resized.

    Raises:
        PipelineError: no image, cut short, of more than LARGEST pixels, or of 32 bits a pixel.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):  # whose 16 bits Pillow gives as 32
                raise PipelineError(f"{path} has pixels of 32 bits, of any range; save it with 8 or 16.")
            return square(image, reading)
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist.") from None
    except Image.DecompressionBombError:
        raise PipelineError(f"{path} has more pixels than the {LARGEST:,} that are read.") from None
    except UnidentifiedImageError:  # which would say the name again
        raise PipelineError(f"{path} can't be read as an image (of no known format); mend it or take it out.") from None
    except PipelineError:
        raise
    except Exception as error:  # Pillow's readers trip over whatever a broken file holds
        raise PipelineError(f"{path} can't be read as an image ({error}); mend it or take it out.") from None


def square(image: Image.Image, reading: Reading) -> Decoded:
    """The image as a square.

    JPEGs are decoded whole: Pillow's draft mode would halve their sides in the decoder, which is faster and gives
    other pixels than the same image in another format.
    """
    mode, size, aspect, brightest = reading.mode, reading.size, image.width / image.height, 0
    if image.mode.startswith("I"):  # which `convert` would clip at 255
        values = np.asarray(image).astype(np.int64)
        brightest = int(values.max())
        image = Image.fromarray(np.clip(values >> (reading.bits - 8), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, reading.background)
        image = Image.alpha_composite(below, image.convert("RGBA"))
    image = image if image.mode == mode else image.convert(mode)  # which would copy it
    image = image.resize((size, size), Image.Resampling.BICUBIC) if reading.whole else ImageOps.fit(image, (size, size))
    return Decoded(np.asarray(image).reshape(size, size, len(mode)), aspect, brightest)


def each(read: Callable[[int], Decoded], count: int, batch: int) -> Iterator[Decoded | PipelineError]:
    """What `read` gives for 0 to count - 1, in that order, or why it gave none; made by all cores at once.

    By threads, as Pillow holds no lock while it decodes and resizes. They are at most two batches a core ahead of
    whoever asks, so that memory does not grow with `count`; neither Executor.map nor joblib has such a bound.

    Args:
        batch: images that a thread makes in one go.
    """

    def made(start: int) -> list[Decoded | PipelineError]:
        return [_result(read, position) for position in range(start, min(start + batch, count))]

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    starts = iter(range(0, count, batch))
    with ThreadPoolExecutor(cores) as pool:
        coming = deque(pool.submit(made, start) for start in islice(starts, 2 * cores))
        while coming:
            done = coming.popleft().result()
            coming += [pool.submit(made, start) for start in islice(starts, 1)]
            yield from done


def _result(read: Callable[[int], Decoded], position: int) -> Decoded | PipelineError:
    try:
        return read(position)
    except PipelineError as error:
        return error


def files_below(folder: Path) -> list[Path]:
    """Every file at any depth, sorted, but for what is hidden and CLUTTER.

    Raises:
        PipelineError: a folder is a link, into which DVC does not look.
    """
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_clutter(name)]
        for name in folders:
            if Path(root, name).is_symlink():
                raise PipelineError(
                    f"{Path(root, name)} is a link to a folder, in which DVC would not see a change; copy the folder."
                )
        found += [Path(root, name) for name in names if not is_clutter(name)]
    return sorted(found)


def is_clutter(name: str) -> bool:
    """Is that what a system leaves in a folder, and no file of the user's?"""
    return name.startswith(".") or name in CLUTTER
