"""An image file to pixels, the same way for training and for serving."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from pipeline.project.errors import PipelineError

Image.init()
FORMATS = sorted(set(Image.OPEN) - {"EPS"})  # EPS is a program, which Pillow would give to Ghostscript to run
SUFFIXES = {suffix for suffix, form in Image.registered_extensions().items() if form in FORMATS}
LARGEST = 100_000_000  # pixels; more is taken for a file that means to fill the memory


def decode(path: Path | BinaryIO, size: int, mode: str) -> np.ndarray:
    """(size, size, channels) uint8: upright, cropped to a square in the middle, resized.

    Args:
        mode: Pillow's "L" for one channel or "RGB" for three.
    Raises:
        PipelineError: no image, cut short, of more than LARGEST pixels, or of 32 bits a pixel.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise PipelineError(
                    f"{path} has {image.width:,} x {image.height:,} pixels; at most {LARGEST:,} are read."
                )
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode in ("I", "F"):
                raise PipelineError(f"{path} has pixels of 32 bits, of any range; save it with 8 or 16.")
            return square(image, size, mode)
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist.") from None
    except PipelineError:
        raise
    except Exception as error:  # Pillow's readers trip over whatever a broken file holds
        raise PipelineError(f"{path} can't be read as an image ({error}); mend it or take it out.") from None


def square(image: Image.Image, size: int, mode: str) -> np.ndarray:
    """(size, size, channels) uint8: the middle of the image, resized. mode: as of `decode`.

    JPEGs are decoded whole: Pillow's draft mode would halve their sides in the decoder, which is faster and gives
    other pixels than the same image in another format.
    """
    if image.mode.startswith("I;16"):  # which `convert` would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image if image.mode == mode else image.convert(mode)  # which would copy it
    return np.asarray(ImageOps.fit(image, (size, size))).reshape(size, size, len(mode))


def each(read: Callable[[int], np.ndarray], count: int, batch: int) -> Iterator[np.ndarray | PipelineError]:
    """What `read` gives for 0 to count - 1, in that order, or why it gave none; made by all cores at once.

    By threads, as Pillow holds no lock while it decodes and resizes. They are at most two batches a core ahead of
    whoever asks, so that memory does not grow with `count`; neither Executor.map nor joblib has such a bound.

    Args:
        batch: images that a thread makes in one go.
    """

    def made(start: int) -> list[np.ndarray | PipelineError]:
        return [_result(read, position) for position in range(start, min(start + batch, count))]

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    starts = iter(range(0, count, batch))
    with ThreadPoolExecutor(cores) as pool:
        coming = deque(pool.submit(made, start) for start in islice(starts, 2 * cores))
        while coming:
            done = coming.popleft().result()
            coming += [pool.submit(made, start) for start in islice(starts, 1)]
            yield from done


def _result(read: Callable[[int], np.ndarray], position: int) -> np.ndarray | PipelineError:
    try:
        return read(position)
    except PipelineError as error:
        return error


def image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The image files that match, sorted, hidden ones left out."""
    named = (path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in named if not any(part.startswith(".") for part in path.relative_to(folder).parts))
