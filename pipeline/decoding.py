"""An image file to pixels, the same way for training and for serving."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import PipelineError

Image.init()
FORMATS = sorted(set(Image.OPEN) - {"EPS"})  # EPS is a program, which Pillow would give to Ghostscript to run
SUFFIXES = {suffix for suffix, form in Image.registered_extensions().items() if form in FORMATS}
LARGEST = 100_000_000  # pixels; more is taken for a file that means to fill the memory


def decode(path: Path, size: int, mode: str) -> np.ndarray:
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
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("I", "F"):
                raise PipelineError(f"{path} has pixels of 32 bits, of any range; save it with 8 or 16.")
            if upright.mode.startswith("I;16"):  # which `convert` would clip at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.asarray(ImageOps.fit(upright.convert(mode), (size, size))).reshape(size, size, len(mode))
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist.") from None
    except PipelineError:
        raise
    except Exception as error:  # Pillow's readers trip over whatever a broken file holds
        raise PipelineError(f"{path} can't be read as an image ({error}); mend it or take it out.") from None


def image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The image files that match, sorted, hidden ones left out."""
    found = (path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
