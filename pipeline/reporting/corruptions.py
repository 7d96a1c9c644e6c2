"""The test images spoiled: six of the corruptions of Hendrycks and Dietterich 2019, by kernels of torchvision.

Each is at severity 3 of their 5: that of CIFAR-10-C up to 32 pixels a side, that of ImageNet-C from 224 on, between the
two in proportion to the logarithm of the side.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.project import data, files
from pipeline.project.randomness import derive
from pipeline.reporting import mistakes

SIDES = (32, 224)  # pixels
SEVERITY = {  # at the one side and at the other
    "noise": (0.08, 0.18),  # Gaussian: its standard deviation, of values from 0 to 1
    "blur": (0.7 / 32, 3 / 224),  # Gaussian: its standard deviation, of the side
    "pixelate": (0.85, 0.4),  # how many pixels a side are left, of the side
    "jpeg": (58, 15),  # quality
    "brightness": (1.3, 1.6),  # a factor: theirs add 0.15 and 0.3, and so does this at middle grey
    "contrast": (0.4, 0.2),  # a factor
}
SHARPEST = 0.7  # pixels: a smaller deviation of the blur leaves images as they are
REACH = 3  # deviations of the blur, each way


def sample(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The positions of at most so many samples, drawn at random, of each class in proportion; ascending."""
    by_class = np.lexsort((np.random.default_rng(seed).permutation(len(labels)), labels))
    return np.sort(mistakes.spread(by_class, most))


def write(path: Path, images: np.ndarray, ids: np.ndarray, name: str, seed: int) -> np.ndarray:
    """Write the images at these positions, corrupted, a part at a time, and map them: (ids, height, width, channels).

    Arguments: images, name: of `corrupt`. path: an .npy file. seed: of the noise.
    """
    random = np.random.default_rng(derive(seed, name))
    corrupted: Iterator[np.ndarray] = (corrupt(chunk, name, random) for chunk in data.in_chunks(images, ids))
    files.write_chunks(path, (len(ids), *images.shape[1:]), images.dtype, corrupted)
    return files.open_array(path)


def corrupt(images: np.ndarray, name: str, random: np.random.Generator) -> np.ndarray:
    """The images under one corruption.

    Args:
        images: (samples, height, width, channels) uint8, of one channel or three. name: of SEVERITY.
        random: what noise is drawn from; the others draw nothing.
    Returns:
        The same shape, uint8.
    """
    severity = severity_at(name, min(images.shape[1:3]))
    if name == "noise":
        noise = random.standard_normal(images.shape, np.float32)
        return np.rint(images + np.float32(255 * severity) * noise).clip(0, 255).astype(np.uint8)
    return _by_kernel(images, name, severity)


def severity_at(name: str, side: int) -> float:
    """The number of SEVERITY for images of that many pixels a side."""
    return float(np.interp(np.log(side), np.log(SIDES), SEVERITY[name]))


def _by_kernel(images: np.ndarray, name: str, severity: float) -> np.ndarray:
    import torch  # seconds to import
    from torchvision.transforms.v2 import InterpolationMode, functional

    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()
    height, width = pixels.shape[2:]
    if name == "blur":
        deviation = max(SHARPEST, severity * min(height, width))
        size = 2 * int(np.ceil(REACH * deviation)) + 1
        across = functional.gaussian_blur(pixels.float(), [size, 1], deviation)  # one way, then the other: much faster
        made = functional.gaussian_blur(across, [1, size], deviation).round().clamp(0, 255).byte()
    elif name == "pixelate":
        left = [round(severity * height), round(severity * width)]
        few = functional.resize(pixels, left, InterpolationMode.BILINEAR, antialias=True)
        made = functional.resize(few, [height, width], InterpolationMode.NEAREST)
    elif name == "jpeg":
        made = functional.jpeg(pixels, round(severity))
    elif name == "brightness":
        made = functional.adjust_brightness(pixels, severity)
    else:
        made = functional.adjust_contrast(pixels, severity)
    return np.ascontiguousarray(made.permute(0, 2, 3, 1).numpy())
